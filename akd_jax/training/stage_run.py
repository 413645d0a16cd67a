"""Everything that the training of a stage needs, built once from its description."""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from akd_jax.data import Batches
from akd_jax.models.network import Model
from akd_jax.training import optimizers
from akd_jax.training.scheduled import EpochValues, epoch_values
from akd_jax.training.stage import Stage
from akd_jax.training.state import Prepare, TrainState, init_loss
from akd_jax.types import Batch, Clock, Teacher, Variables


@dataclasses.dataclass(frozen=True)
class StageRun:
    """A stage with its initial state, teachers, batches and scheduled values.

    Attributes:
      stage: the stage.
      state: the state before the first step.
      teachers: the teachers that the loss reads, by name.
      train: batches of the training examples.
      values: the scheduled values of each epoch.
    """

    stage: Stage
    state: TrainState
    teachers: Mapping[str, Teacher]
    train: Batches
    values: EpochValues


def build_stage(
    stage: Stage,
    student: Model,
    teachers: Mapping[str, Teacher],
    train: Batches,
    *,
    key: jax.Array,
    loss_variables: Variables | None = None,
    loss_data: Variables | None = None,
    augmentation: Prepare | None = None,
    grad_accumulation_steps: int = 1,
    skip_nonfinite: bool = False,
) -> StageRun:
    """Builds what the training of a stage needs.

    Args:
      stage: the stage.
      student: the student with the variables that the stage starts from.
      teachers: the teachers that the loss reads, by name.
      train: batches of the training examples.
      key: PRNG key of the stage.
      loss_variables: the variables that the loss starts from; None for its initial ones.
      loss_data: collections of the loss that hold data; None for no such collection.
      augmentation: changes each batch before `stage.prepare` does; None for no change.
      grad_accumulation_steps: number of parts of a device's share of a batch.
      skip_nonfinite: whether steps that are not finite change nothing.

    Raises:
      InputError: a schedule leaves its range.
    """
    steps_per_epoch = len(train)
    temperature_steps = [stage.temperature_step(epoch) for epoch in range(stage.epochs)]

    def optimizer(config: optimizers.OptimizerConfig) -> tuple:
        rate = optimizers.learning_rate(config, temperature_steps, steps_per_epoch)
        return optimizers.build(config, rate), rate

    student_optimizer, learning_rate = optimizer(stage.optimizer)
    values = epoch_values(stage, learning_rate, steps_per_epoch)
    prepare = _chain([x for x in (augmentation, stage.prepare) if x is not None])
    if loss_variables is None and isinstance(stage.loss, nn.Module):
        # Other losses need no batch to be gathered.
        loss_key, batch = jax.random.fold_in(key, 0), next(train.epoch())
        # A loss that compares the examples of a batch sees one part of it at a time.
        part = len(batch.weights) // grad_accumulation_steps
        batch = jax.tree.map(lambda x: x[:part], batch)
        loss_variables = init_loss(stage.loss, loss_key, student, teachers, batch, prepare)
    state = TrainState.create(
        student.apply_fn,
        student.variables,
        optimizer=student_optimizer,
        loss=stage.loss,
        # With several processes, pmap copies a typed key to the host, and would wait for each
        # step before it starts the next one. Key data are not copied.
        key=jax.random.key_data(key),
        steps_per_epoch=steps_per_epoch,
        loss_variables={**(loss_variables or {}), **(loss_data or {})},
        loss_optimizer=None if stage.loss_optimizer is None else optimizer(stage.loss_optimizer)[0],
        prepare=prepare,
        frozen=stage.frozen,
        training_options=stage.training_options,
        grad_accumulation_steps=grad_accumulation_steps,
        skip_nonfinite=skip_nonfinite,
    )
    return StageRun(stage, state, teachers, train, values)


def _chain(changes: Sequence[Prepare]) -> Prepare | None:
    """Returns the changes of a batch one after another; None if there is none."""
    if not changes:
        return None

    def prepare(
        student: Model,
        teachers: Mapping[str, Teacher],
        batch: Batch,
        clock: Clock,
        key: jax.Array,
    ) -> Batch:
        for number, change in enumerate(changes):
            batch = change(student, teachers, batch, clock, jax.random.fold_in(key, number))
        return batch

    return prepare
