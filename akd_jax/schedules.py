"""Schedules: functions of the clock, for temperatures and for the weights of losses.

Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163) lowers T from
tau_max to 1. The temperature step k = 0 .. tau_max - 1 counts the temperatures:

    T = tau_max - k        Phi(T) = 1 - (T - 1) / tau_max = (k + 1) / tau_max

A schedule is evaluated inside the compiled step, whose clock is traced: one compiled step serves
all its values. The records of a run show the same object's values. `max_temperature` is tau_max
in the paper.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from akd_jax.types import Clock


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A function of the clock with the range of its values.

    Attributes:
      function: maps a clock to a scalar.
      minimum: smallest value that is allowed.
      maximum: largest value that is allowed.
    """

    function: Callable[[Clock], ArrayLike]
    minimum: float = 0.0
    maximum: float = math.inf

    def __call__(self, clock: Clock) -> jax.Array:
        """Returns the value at a time, float32 []."""
        return jnp.asarray(self.function(clock), jnp.float32)


def constant(value: float) -> Schedule:
    """Returns the schedule that is always `value`."""
    return Schedule(lambda clock: value)


def as_schedule(value: Callable[[Clock], ArrayLike] | float) -> Schedule:
    """Returns a number or a function of the clock as a schedule of values of at least 0."""
    if isinstance(value, Schedule):
        return value
    return Schedule(value) if callable(value) else constant(value)


def temperature(max_temperature: int) -> Schedule:
    """Returns the schedule of the temperature T = max(max_temperature - k, 1).

    Args:
      max_temperature: tau_max, an integer of at least 1.

    Raises:
      ValueError: max_temperature is not an integer of at least 1.
    """
    _check_max_temperature(max_temperature)
    return Schedule(
        lambda clock: jnp.maximum(max_temperature - clock.temperature_step, 1),
        minimum=1,
        maximum=max_temperature,
    )


def annealing_factor(max_temperature: int) -> Schedule:
    """Returns the schedule of the annealing factor Phi = min((k + 1) / max_temperature, 1).

    It rises from 1 / max_temperature at k = 0 to exactly 1 at the last temperature step.

    Args:
      max_temperature: tau_max, an integer of at least 1.

    Raises:
      ValueError: max_temperature is not an integer of at least 1.
    """
    _check_max_temperature(max_temperature)

    def factor(clock: Clock) -> jax.Array:
        steps = jnp.minimum(clock.temperature_step + 1, max_temperature)
        return steps.astype(jnp.float32) / jnp.float32(max_temperature)

    return Schedule(factor, maximum=1)


def temperature_step(epochs: int, max_temperature: int) -> Callable[[int], int]:
    """Returns the function that maps an epoch to its temperature step k.

    Each temperature lasts for epochs // max_temperature epochs. The last one, T = 1, also lasts
    for the remainder of that division. (In the authors' code k continues to grow in the
    remainder, so that Phi exceeds 1.)

    Args:
      epochs: number of epochs of the stage, at least max_temperature.
      max_temperature: tau_max, an integer of at least 1.

    Returns:
      A function of the number of finished epochs, from 0 to epochs - 1. It returns k: 0 at the
      first epoch, max_temperature - 1 at the last.

    Raises:
      ValueError: max_temperature is not an integer from 1 to epochs.
    """
    _check_max_temperature(max_temperature)
    if max_temperature > epochs:
        raise ValueError(
            f"max_temperature: expected an integer from 1 to epochs = {epochs}, got"
            f" {max_temperature}; each temperature needs at least one epoch"
        )
    return lambda epoch: min(epoch // (epochs // max_temperature), max_temperature - 1)


def mixing_weight(ramp_epochs: int, until: int) -> Schedule:
    """Returns Continuation-KD's psi(i) = min(i / ramp_epochs, 1) for i < until, and 1 from then on.

    i is the number of finished epochs. The paper uses ramp_epochs = until = 150 of 200 epochs for
    images, and ramp_epochs = 40 and until = 21 of 30 epochs for text (Jafari et al., Findings of
    EMNLP 2022, https://arxiv.org/abs/2212.05998).

    Args:
      ramp_epochs: number of epochs in which psi rises from 0 to 1, at least 1.
      until: the epoch from which psi is 1.

    Raises:
      ValueError: ramp_epochs is below 1.
    """
    ramp = warm_up(1.0, epochs=ramp_epochs)
    return Schedule(lambda clock: jnp.where(clock.epoch < until, ramp(clock), 1), maximum=1)


def linear(
    start: float,
    end: float,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    smooth: bool = False,
) -> Schedule:
    """Returns start + (end - start) x, where x rises from 0 to 1.

    Args:
      start: the value at the beginning of the stage.
      end: the value from the end of the transition on.
      epochs: the epochs of the transition; the value then changes once per epoch.
      steps: the updates of the transition; the value then changes with every update.
      smooth: whether the value also changes with every update if epochs are given.

    Raises:
      ValueError: neither or both of epochs and steps are given, or one is below 1.
    """
    progress = _progress(epochs, steps, smooth)
    return Schedule(lambda clock: start + (end - start) * progress(clock))


def cosine(
    start: float,
    end: float,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    smooth: bool = False,
) -> Schedule:
    """Returns end + (start - end) (1 + cos(pi x)) / 2, where x rises from 0 to 1 as for `linear`.

    Args:
      start: the value at the beginning of the stage.
      end: the value from the end of the transition on.
      epochs: as for `linear`.
      steps: as for `linear`.
      smooth: as for `linear`.

    Raises:
      ValueError: as for `linear`.
    """
    progress = _progress(epochs, steps, smooth)
    return Schedule(lambda clock: end + (start - end) * (1 + jnp.cos(jnp.pi * progress(clock))) / 2)


def exponential(
    start: float,
    end: float,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    smooth: bool = False,
) -> Schedule:
    """Returns start (end / start)^x, where x rises from 0 to 1 as for `linear`.

    Args:
      start: the value at the beginning of the stage, greater than 0.
      end: the value from the end of the transition on, greater than 0.
      epochs: as for `linear`.
      steps: as for `linear`.
      smooth: as for `linear`.

    Raises:
      ValueError: start or end is not greater than 0, or as for `linear`.
    """
    if start <= 0 or end <= 0:
        raise ValueError(
            f"start, end: expected values greater than 0, got {start} and {end}; use linear or"
            " cosine to reach 0"
        )
    progress = _progress(epochs, steps, smooth)
    return Schedule(lambda clock: start * (end / start) ** progress(clock))


def warm_up(value: float, *, epochs: int | None = None, steps: int | None = None) -> Schedule:
    """Returns value * x, where x rises from 0 to 1 as for `linear`.

    Args:
      value: the value from the end of the transition on.
      epochs: as for `linear`.
      steps: as for `linear`.

    Raises:
      ValueError: as for `linear`.
    """
    return linear(0.0, value, epochs=epochs, steps=steps)


def from_optax(schedule: Callable[[Any], Any]) -> Schedule:
    """Returns an Optax schedule as a function of the clock's update number."""

    def value(clock: Clock) -> Any:
        # Optax multiplies its integer step count with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            return schedule(clock.step)

    return Schedule(value)


def _progress(epochs: int | None, steps: int | None, smooth: bool) -> Callable[[Clock], jax.Array]:
    """Returns the function x = min(finished / length, 1) of the clock."""
    length = epochs if steps is None else steps
    if length is None or (epochs is not None and steps is not None) or length < 1:
        raise ValueError(
            f"expected either epochs or steps, at least 1, got epochs={epochs} and steps={steps};"
            " give the length of the transition"
        )

    def progress(clock: Clock) -> jax.Array:
        if smooth and steps is None:
            total = jnp.float32(length) * clock.steps_per_epoch.astype(jnp.float32)
            return jnp.minimum(clock.step.astype(jnp.float32) / total, 1)
        finished = clock.epoch if steps is None else clock.step
        return jnp.minimum(finished.astype(jnp.float32) / jnp.float32(length), 1)

    return progress


def _check_max_temperature(max_temperature: int) -> None:
    if max_temperature < 1 or max_temperature != np.floor(max_temperature):
        raise ValueError(
            f"max_temperature: expected an integer of at least 1, got {max_temperature}"
        )
