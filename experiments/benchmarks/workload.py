"""The work that the suites time: random images, networks with random weights, training steps."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from akd_jax import data, losses, models
from akd_jax.data.augmentation import Augmentation
from akd_jax.methods.scratch import supervised_loss
from akd_jax.models.network import Model, Network
from akd_jax.training import optimizers, parallel
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Loss, Teacher, Variables
from experiments.benchmarks.shapes import BATCH_SIZE as BATCH_SIZE

MAX_TEMPERATURE = 10
AUGMENT = Augmentation(crop_padding=4, flip=True, seed=0)


def images(count: int) -> data.Examples:
    """Returns random images uint8 [count, 32, 32, 3] of 10 classes.

    Random pixels suffice, because the time of a step does not depend on their values.
    """
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return data.Examples(pixels, rng.integers(0, 10, count).astype(np.int32))


def network(spec: str) -> tuple[Network, Variables]:
    """Returns a network for these images, and random variables of it."""
    created = Network(models.build(spec, 10), data.Normalise((127.5,) * 3, (64.0,) * 3))
    example = np.zeros((1, 32, 32, 3), np.uint8)
    return created, jax.device_get(jax.jit(created.init)(jax.random.key(0), example))


def teacher_model(spec: str) -> Model:
    """Returns a teacher with random variables."""
    created, variables = network(spec)
    return Model(variables, created.apply)


def annealed_loss(student: Any, teachers: Any, batch: Any, temperature_step: Any) -> Any:
    """Returns the loss of stage I of Annealing-KD, float32 [B]."""
    teacher = teachers["teacher"].logits
    return losses.annealed_mse(student.logits, teacher, temperature_step, MAX_TEMPERATURE)


def optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Returns the configured optimizer with a constant learning rate."""
    return optimizers.build(config, optax.constant_schedule(config.learning_rate))


def state(spec: str, loss: Loss = supervised_loss) -> TrainState:
    """Returns the state of a student at step 0, with the paper's optimizer for images."""
    created, variables = network(spec)
    return TrainState.create(
        created.apply,
        variables,
        optimizer=optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=1e-4)),
        loss=loss,
        key=jax.random.key_data(jax.random.key(0)),
        augment=AUGMENT,
    )


class Trainer:
    """A compiled training step with its state and teachers; a call waits for the results.

    Attributes:
      compiled: the compiled step.
    """

    def __init__(self, state: TrainState, teachers: Mapping[str, Teacher]):
        self.compiled = parallel.compile_train_step(train_step)
        self._state = parallel.replicate(state)
        self._teachers = parallel.replicate(dict(teachers))
        self._temperature_step = parallel.replicate(np.int32(3))

    def arguments(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the arguments of the compiled step for a batch."""
        return self._state, self._teachers, parallel.shard(batch), self._temperature_step

    def __call__(self, batch: Batch) -> None:
        """Makes one update on a batch and waits for it."""
        self._state, metrics = self.compiled(*self.arguments(batch))
        jax.block_until_ready((self._state, metrics))
