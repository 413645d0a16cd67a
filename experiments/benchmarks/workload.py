"""The work that the suites time: random images, networks with random weights, training steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import data, losses, models, schedules
from akd_jax.data.augmentation import Augmentation
from akd_jax.methods.scratch import supervised_loss
from akd_jax.models.network import Model, Network
from akd_jax.training import parallel
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.training.stage_run import StageRun, build_stage
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Loss, Outputs, Teacher
from experiments.benchmarks.shapes import BATCH_SIZE as BATCH_SIZE

MAX_TEMPERATURE = 10
AUGMENT = Augmentation(crop_padding=4, flip=True, seed=0)
# The paper's optimizer for images.
OPTIMIZER = OptimizerConfig(learning_rate=0.1, weight_decay=1e-4, schedule="constant")

# The loss of stage I of Annealing-KD.
annealed_loss = losses.bind(losses.annealed_mse, factor=schedules.annealing_factor(MAX_TEMPERATURE))


def images(count: int) -> data.Examples:
    """Returns random images uint8 [count, 32, 32, 3] of 10 classes.

    Random pixels suffice, because the time of a step does not depend on their values.
    """
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return data.Examples(pixels, rng.integers(0, 10, count).astype(np.int32))


def stored_logits(examples: int, classes: int = 10) -> list[Outputs]:
    """Returns one view of stored outputs that are 0, [examples, classes], on the host."""
    view: Outputs = jax.device_get(Outputs(jnp.zeros((examples, classes))))
    return [view]


def network(spec: str) -> Network:
    """Returns a network for these images."""
    return Network(models.build(spec, 10), data.Normalise((127.5,) * 3, (64.0,) * 3))


def random_model(spec: str) -> Model:
    """Returns a network for these images with random variables, on the host."""
    created = network(spec)
    example = np.zeros((1, 32, 32, 3), np.uint8)
    variables = created.initial_variables(jax.random.key(0), example)
    return Model(jax.device_get(variables), created.apply)


def build(
    student: Model,
    train: data.Batches,
    loss: Loss = supervised_loss,
    teacher: Teacher | None = None,
    *,
    optimizer: OptimizerConfig = OPTIMIZER,
    augmentation: Augmentation | None = AUGMENT,
) -> StageRun:
    """Returns a stage of one epoch.

    Args:
      student: the student.
      train: batches of the training examples.
      loss: the loss.
      teacher: the teacher that the loss reads under the name 'teacher'; None for no teacher.
      optimizer: the settings of the optimizer.
      augmentation: the augmentation; None for no augmentation.
    """
    teachers = {} if teacher is None else {"teacher": teacher}
    stage = Stage("benchmark", 1, loss, optimizer, teachers=tuple(teachers))
    return build_stage(
        stage, student, teachers, train, key=jax.random.key(0), augmentation=augmentation
    )


class Trainer:
    """The compiled training step of a stage with its state; a call waits for the results.

    Attributes:
      compiled: the compiled step.
      state: the current state, on all devices.
    """

    def __init__(self, run: StageRun):
        self.compiled = parallel.compile_train_step(train_step)
        self.state, self._teachers = parallel.replicate((run.state, dict(run.teachers)))
        self._temperature_step = parallel.replicate(np.int32(3))

    def arguments(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the arguments of the compiled step for a batch."""
        return self.state, self._teachers, parallel.shard(batch), self._temperature_step

    def __call__(self, batch: Batch) -> None:
        """Makes one update on a batch and waits for it."""
        self.state, metrics = self.compiled(*self.arguments(batch))
        jax.block_until_ready((self.state, metrics))


def epoch(run: StageRun) -> Callable[[], None]:
    """Returns a function that trains the first epoch of a stage, batch by batch.

    It waits for each update: with several devices on few cores, the collectives of several
    updates in flight can deadlock.
    """
    step = Trainer(run)

    def train() -> None:
        for batch in run.train.epoch():
            step(batch)

    return train
