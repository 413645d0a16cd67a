"""Stages: parts of a training, each with its own loss, optimizer, data and evaluation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from akd_jax.data import Batches, Dataset, Examples
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.models.network import Model
from akd_jax.schedules import Schedule
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.state import Prepare
from akd_jax.types import Loss, Variables


@dataclasses.dataclass(frozen=True)
class StageContext:
    """What the data and the evaluation of a stage can use.

    Attributes:
      dataset: the data set of the run.
      models: the teachers of the method, and the best student of each finished stage, by name.
      batches: returns the batches of a split or of examples, with the batch size of the run.
      tokenise: returns texts, str [N, columns], as examples, and the number of truncated ones.
      digest: returns the digest of a model from its name, that of a teacher as in its results.json.
      folder: the folder of what teachers have computed, which the runs of a comparison share; None
        in a dry run, which writes nothing.
      notes: what the data of the stage add to its summary in results.json, by name.
    """

    dataset: Dataset
    models: Mapping[str, Model]
    batches: Callable[[str | Examples], Batches]
    tokenise: Callable[[np.ndarray], tuple[Examples, int]]
    digest: Callable[[str], str]
    folder: Path | None = None
    notes: dict[str, float] = dataclasses.field(default_factory=dict)


class StageData(Protocol):
    """Builds the training examples of a stage when it starts.

    It is called again when a run resumes, and in every process: it must return the same examples.
    """

    def __call__(self, context: StageContext) -> Examples:
        """Returns the examples, with the inputs that the networks of the run read."""


class LossData(Protocol):
    """Builds collections of a loss that hold data, such as the examples of a reward.

    Like `StageData`, it must return the same arrays whenever it is called.
    """

    def __call__(self, context: StageContext) -> Variables:
        """Returns the collections by name."""


class Evaluate(Protocol):
    """Computes the validation scores of a model."""

    def __call__(self, model: Model, loss_variables: Variables, /) -> Mapping[str, float]:
        """Returns the scores by name; they include the one that selects the best student.

        Args:
          model: the student.
          loss_variables: the variables of the loss of the stage; {} for a function.
        """


# A score, and whether the best epoch has the largest one or the smallest, or is the last epoch.
Select = tuple[str, Literal["max", "min", "last"]]


def first_temperature(epoch: int) -> int:
    """Returns temperature step 0 for every epoch, for losses that do not anneal."""
    del epoch
    return 0


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a method, with its own loss, optimizer, schedules, data and evaluation.

    Attributes:
      name: the name of the stage and of its checkpoint folder.
      epochs: number of passes over the training examples.
      loss: the loss function or module.
      optimizer: settings of the optimizer; each stage starts with a new optimizer state.
      loss_optimizer: settings of the optimizer of the loss's own parameters; None for those of
        the student's optimizer.
      start: name of the earlier stage whose best student this stage starts from; None for the
        student's initial parameters.
      loss_start: name of the earlier stage whose loss variables, after its last epoch, the loss
        starts from; None for its initial variables.
      loss_data: builds collections of the loss that hold data; None for no such collection.
      teachers: names of the teachers whose outputs the loss reads.
      temperature_step: maps the number of finished epochs to the temperature step.
      schedules: the scheduled values that the records of the stage show, by name, such as
        'temperature' and 'phi'.
      prepare: changes the batch on the device before teachers and student read it.
      data: builds the training examples; None for the training split of the data set.
      evaluate: builds the evaluation; None for the metrics of the task on the validation split.
      select: the score that chooses the best student, and whether the best is the largest or
        the smallest, or that of the last epoch; None for the first metric of the task and the
        largest.
      frozen: the paths of the student's submodules or parameters that keep their values, the names
        on the way to them joined by '/', such as 'encoder'; or (EVERYTHING,), if only the loss
        learns. A frozen submodule whose `__call__` gets the keyword argument `train` runs in
        inference mode.
      tests: the names of the splits on which the best student is scored when the stage is finished.
      share: the part of the training split that counts as the size of `data`, where the numbers of
        updates of several methods are compared.
      training_options: further keyword arguments with which the training step calls the student's
        module, such as masks of its hidden states.
    """

    name: str
    epochs: int
    loss: Loss
    optimizer: OptimizerConfig
    loss_optimizer: OptimizerConfig | None = None
    start: str | None = None
    loss_start: str | None = None
    loss_data: LossData | None = None
    teachers: tuple[str, ...] = ()
    temperature_step: Callable[[int], int] = first_temperature
    schedules: Mapping[str, Schedule] = dataclasses.field(default_factory=dict)
    prepare: Prepare | None = None
    data: StageData | None = None
    evaluate: Callable[[StageContext], Evaluate] | None = None
    select: Select | None = None
    frozen: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    share: float = 1.0
    training_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build_loss_data(self, context: StageContext) -> Variables:
        """Returns the collections of the loss that hold data; {} if there are none."""
        return {} if self.loss_data is None else self.loss_data(context)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(
                f"{self.name}: expected at least 1 epoch, got {self.epochs}; set more epochs"
            )
        for optimizer in (self.optimizer, self.loss_optimizer or self.optimizer):
            if optimizer.warmup_epochs >= self.epochs:
                raise InputError(
                    f"{self.name}: expected warmup_epochs below its {self.epochs} epochs, got"
                    f" {optimizer.warmup_epochs}; set fewer"
                )
