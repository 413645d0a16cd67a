"""Distillation methods by name. A new method is a module here and a line in METHODS."""

import operator
from collections.abc import Mapping

from akd_jax.config import RunConfig, TrainedConfig
from akd_jax.errors import InputError
from akd_jax.methods import annealing_kd, continuation_kd, kd, scratch, takd
from akd_jax.types import Method, MethodBuilder

METHODS: dict[str, MethodBuilder] = {
    "scratch": scratch.build,
    "kd": kd.build,
    "takd": takd.build,
    "annealing_kd": annealing_kd.build,
    "continuation_kd": continuation_kd.build,
}

# Teacher name to the method that trains the teacher.
TEACHERS: Mapping[str, MethodBuilder] = {
    "teacher": scratch.build_teacher,
    "assistant": takd.build_assistant,
}
# Teacher name to the section of the configuration that describes the teacher.
TEACHER_FIELDS: Mapping[str, str] = {
    "teacher": "teacher",
    "assistant": "takd.assistant",
}


def build(config: RunConfig) -> Method:
    """Returns the method that the configuration names, with its settings.

    Raises:
      InputError: the name is unknown, or the settings do not fit the method.
    """
    if config.method not in METHODS:
        raise InputError(
            f"config.method: expected one of {', '.join(METHODS)}, got {config.method!r}"
        )
    return METHODS[config.method](config)


def teacher_config(config: RunConfig, name: str) -> TrainedConfig:
    """Returns the section of the configuration that describes a teacher."""
    return operator.attrgetter(TEACHER_FIELDS[name])(config)
