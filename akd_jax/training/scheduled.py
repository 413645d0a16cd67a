"""The scheduled values of a stage in each epoch, for its records and for checks."""

import dataclasses
from collections.abc import Callable, Mapping
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

_MAX_UPDATES = 2**31 - 1  # The numbers of a clock are of the type int32.
_RATE = "learning_rate"
_CHECKED_EPOCHS = 10_000  # The most epochs that are checked before a run, evenly spaced.


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
      InputError: see `check_schedules`.
    """
    _check_updates(stage, steps_per_epoch)
    epochs = np.arange(stage.epochs)
    schedules = _schedules(stage)
    functions: dict[str, Callable[[Clock], Any]] = dict(schedules)
    functions[_RATE] = lambda clock: learning_rate(clock.step)
    values = _evaluate(stage, functions, epochs, steps_per_epoch)
    _check_ranges(stage, schedules, values, epochs)
    return EpochValues(
        _temperature_steps(stage, epochs),
        values[_RATE][-1],
        {name: values[name][-1] for name in stage.schedules},
    )


def check_schedules(stage: Stage, steps_per_epoch: int) -> None:
    """Checks the ranges of a stage's schedules and of the weights of its loss.

    Raises:
      InputError: a schedule leaves its range, or the stage has too many updates.
    """
    _check_updates(stage, steps_per_epoch)
    schedules = _schedules(stage)
    if schedules:
        count = min(stage.epochs, _CHECKED_EPOCHS)
        epochs = np.linspace(0, stage.epochs - 1, count).astype(int)
        values = _evaluate(stage, schedules, epochs, steps_per_epoch)
        _check_ranges(stage, schedules, values, epochs)


def _schedules(stage: Stage) -> dict[str, Schedule]:
    """Returns the schedules that a stage records, and those of the weights of its loss."""
    sums = losses.Sum | losses.ModuleSum | losses.Balanced
    weights = stage.loss.weights if isinstance(stage.loss, sums) else {}
    named = {f"the weight of {name}": weight for name, weight in weights.items()}
    return {**named, **stage.schedules}


def _evaluate(
    stage: Stage,
    functions: Mapping[str, Callable[[Clock], Any]],
    epochs: np.ndarray,
    steps_per_epoch: int,
) -> dict[str, np.ndarray]:
    """Returns the values of functions at the first and the last update of epochs, [2, epochs]."""
    steps = np.stack([epochs * steps_per_epoch, (epochs + 1) * steps_per_epoch - 1])
    temperature_steps = _temperature_steps(stage, epochs)
    clocks = Clock(
        *(
            jnp.asarray(np.broadcast_to(numbers, steps.shape), jnp.int32)
            for numbers in (temperature_steps, epochs, steps, steps_per_epoch)
        )
    )

    def values(clock: Clock) -> dict[str, jax.Array]:
        return {name: jnp.float32(function(clock)) for name, function in functions.items()}

    # One call for all epochs: a call for a single epoch takes a millisecond.
    # The standard promotion is needed because optax multiplies integers with floats.
    with jax.numpy_dtype_promotion("standard"):
        return jax.device_get(jax.jit(jax.vmap(jax.vmap(values)))(clocks))


def _temperature_steps(stage: Stage, epochs: np.ndarray) -> np.ndarray:
    return np.array([stage.temperature_step(int(epoch)) for epoch in epochs], np.int32)


def _check_updates(stage: Stage, steps_per_epoch: int) -> None:
    """Raises InputError if the number of an update does not fit into a clock."""
    updates = stage.epochs * steps_per_epoch
    if updates > _MAX_UPDATES:
        raise InputError(
            f"stage {stage.name}: expected at most {_MAX_UPDATES} updates, got {updates}; set fewer"
            " epochs"
        )


def _check_ranges(
    stage: Stage,
    schedules: Mapping[str, Schedule],
    values: Mapping[str, np.ndarray],
    epochs: np.ndarray,
) -> None:
    """Raises InputError if a value is not finite or out of its schedule's range."""
    for name, schedule in schedules.items():
        numbers = values[name]
        valid = (numbers >= schedule.minimum) & (numbers <= schedule.maximum)
        outside = np.argwhere(~(valid & np.isfinite(numbers)))
        if len(outside):
            update, column = outside[0]
            raise InputError(
                f"stage {stage.name}: {name}: expected values from {schedule.minimum:g} to"
                f" {schedule.maximum:g}, got {numbers[update, column]:g} in epoch"
                f" {epochs[column] + 1}; change the schedule"
            )
