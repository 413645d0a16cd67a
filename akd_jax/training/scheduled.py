"""The scheduled values of a stage in each epoch, for its records and for checks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import losses
from akd_jax.host.errors import InputError
from akd_jax.schedules import Schedule
from akd_jax.training.optimizers import LearningRate
from akd_jax.training.stage import Stage
from akd_jax.types import Clock


@dataclasses.dataclass(frozen=True)
class EpochValues:
    """The scheduled values of a stage, one per epoch: arrays [epochs].

    Attributes:
      temperature_step: k, an integer.
      learning_rate: the learning rate of the epoch's last update.
      schedules: the values of the schedules that the stage records, at the epoch's last update.
    """

    temperature_step: np.ndarray
    learning_rate: np.ndarray
    schedules: Mapping[str, np.ndarray]

    def record(self, epoch: int) -> dict[str, float]:
        """Returns the schedules and the learning rate of an epoch by name."""
        values = {**self.schedules, "learning_rate": self.learning_rate}
        return {name: float(array[epoch]) for name, array in values.items()}


def epoch_values(stage: Stage, learning_rate: LearningRate, steps_per_epoch: int) -> EpochValues:
    """Computes the values of a stage's schedules, and checks their ranges.

    Raises:
      InputError: a schedule leaves its range.
    """
    weights = stage.loss.weights if isinstance(stage.loss, losses.Sum) else {}
    checked: dict[str, Schedule] = {
        **{f"the weight of {name}": weight for name, weight in weights.items()},
        **stage.schedules,
    }
    epochs = np.arange(stage.epochs, dtype=np.int32)
    temperature_steps = np.array([stage.temperature_step(int(e)) for e in epochs], np.int32)

    def values(temperature_step: jax.Array, epoch: jax.Array, step: jax.Array) -> Any:
        clock = Clock(temperature_step, epoch, step)
        return {n: schedule(clock) for n, schedule in checked.items()}, jnp.float32(
            learning_rate(step)
        )

    # One call for all epochs: a call for a single epoch takes a millisecond.
    # The standard promotion is needed because optax multiplies integers with floats.
    with jax.numpy_dtype_promotion("standard"):
        compiled = jax.jit(jax.vmap(values))
        first, _ = jax.device_get(compiled(temperature_steps, epochs, epochs * steps_per_epoch))
        last, rates = jax.device_get(
            compiled(temperature_steps, epochs, (epochs + 1) * steps_per_epoch - 1)
        )
    for name, schedule in checked.items():
        for array in (first[name], last[name]):
            _check_range(f"{stage.name}: {name}", schedule, array)
    return EpochValues(temperature_steps, rates, {name: last[name] for name in stage.schedules})


def _check_range(name: str, schedule: Schedule, values: np.ndarray) -> None:
    """Raises InputError if a value is not finite or out of the schedule's range."""
    outside = ~((values >= schedule.minimum) & (values <= schedule.maximum) & np.isfinite(values))
    if outside.any():
        epoch = int(np.argmax(outside))
        raise InputError(
            f"{name}: expected values from {schedule.minimum:g} to {schedule.maximum:g}, got"
            f" {values[epoch]:g} in epoch {epoch + 1}; change the schedule"
        )
