"""Distillation methods, by name. A new one is a file here and a line in METHODS."""

from akd_jax.config import RunConfig
from akd_jax.errors import InputError
from akd_jax.methods.annealing_kd import annealing_kd
from akd_jax.methods.kd import kd
from akd_jax.methods.scratch import scratch
from akd_jax.types import Method, MethodBuilder

METHODS: dict[str, MethodBuilder] = {
    "scratch": scratch,
    "kd": kd,
    "annealing_kd": annealing_kd,
}


def build(config: RunConfig) -> Method:
    """The method that the configuration names, with its settings.

    Raises:
      InputError: the name is unknown, or the settings do not fit the method.
    """
    if config.method not in METHODS:
        raise InputError(
            f"config.method: expected one of {', '.join(METHODS)}, got {config.method!r}"
        )
    return METHODS[config.method](config)
