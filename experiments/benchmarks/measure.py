"""What the suites share: paired timings, random images, and the trainers that are timed."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from akd_jax import data, losses, models, optimizers, parallel
from akd_jax.config import OptimizerConfig
from akd_jax.data.augmentation import Augmentation
from akd_jax.methods.scratch import supervised_loss
from akd_jax.step import train_step
from akd_jax.types import Batch, Loss, Model, Network, Teacher, TrainState, Variables
from experiments.benchmarks.shapes import BATCH_SIZE as BATCH_SIZE

MAX_TEMPERATURE = 10
AUGMENT = Augmentation(crop_padding=4, flip=True, seed=0)


def timed(run: Callable[[], Any], times: int = 1) -> Callable[[], float]:
    """Seconds of a function that does something a number of times, for once."""

    def seconds() -> float:
        started = time.perf_counter()
        run()
        return (time.perf_counter() - started) / times

    return seconds


def medians(variants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each variant, as `medians_of`."""
    return medians_of({name: timed(run) for name, run in variants.items()}, repeats)


def medians_of(
    variants: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: bool = True
) -> dict[str, float]:
    """The median of the seconds that each variant says.

    They take turns, so that a busy moment of the machine meets all of them.

    Args:
      variants: by name.
      repeats: how often.
      warm_up: whether a turn before the others is dropped.
    """
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + warm_up):
        for name, run in variants.items():
            found[name].append(run())
    return {name: statistics.median(seconds[warm_up:]) for name, seconds in found.items()}


def images(count: int) -> data.Examples:
    """Random images uint8 [N, 32, 32, 3] of 10 classes: a step takes as long whatever they show."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return data.Examples(pixels, rng.integers(0, 10, count).astype(np.int32))


def network(spec: str) -> tuple[Network, Variables]:
    """A network for such images, and random weights."""
    made = Network(models.build(spec, 10), data.Normalise((127.5,) * 3, (64.0,) * 3))
    example = np.zeros((1, 32, 32, 3), np.uint8)
    return made, jax.device_get(jax.jit(made.init)(jax.random.key(0), example))


def teacher_model(spec: str) -> Model:
    """A teacher of random weights."""
    made, variables = network(spec)
    return Model(variables, made.apply)


def annealed_loss(student: Any, teachers: Any, batch: Any, temperature_step: Any) -> Any:
    """Stage I's."""
    teacher = teachers["teacher"].logits
    return losses.annealed_mse(student.logits, teacher, temperature_step, MAX_TEMPERATURE)


def optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optimizer of some settings, whose learning rate stays as it is."""
    return optimizers.build(config, optax.constant_schedule(config.learning_rate))


def state(spec: str, loss: Loss = supervised_loss) -> TrainState:
    """A student at step 0, trained as the paper trains on images."""
    made, variables = network(spec)
    return TrainState.create(
        made.apply,
        variables,
        optimizer=optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=1e-4)),
        loss=loss,
        key=jax.random.key_data(jax.random.key(0)),
        augment=AUGMENT,
    )


class Trainer:
    """Takes a step on a batch, and waits for it.

    Attributes:
      compiled: the step.
    """

    def __init__(self, state: TrainState, teachers: Mapping[str, Teacher]):
        self.compiled = parallel.compile_train_step(train_step)
        self._state = parallel.replicate(state)
        self._teachers = parallel.replicate(dict(teachers))
        self._temperature_step = parallel.replicate(np.int32(3))

    def arguments(self, batch: Batch) -> tuple[Any, ...]:
        """Those of the compiled step."""
        return self._state, self._teachers, parallel.shard(batch), self._temperature_step

    def __call__(self, batch: Batch) -> None:
        """The step."""
        self._state, metrics = self.compiled(*self.arguments(batch))
        jax.block_until_ready((self._state, metrics))
