"""What a method is given and what it registers: the shared settings and `MethodSpec`."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import Field

from akd_jax.data.settings import DatasetConfig
from akd_jax.host.settings import NonNegativeInt, PositiveInt, Section, Seed
from akd_jax.training.method import Method, Pretrained, Recipe, Trained
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Task

_Section = TypeVar("_Section", bound=Section)


class TrainingConfig(Section):
    """The training of a network that the student learns from; or a finished one under `path`."""

    path: str = Field(
        default="",
        description="Folder of a finished teacher: a run folder or a fine-tuned Hugging Face"
        " folder; empty to train the network.",
    )
    epochs: PositiveInt = Field(default=200, description="Number of training epochs, at least 1.")
    seed: Seed = Field(
        default=0,
        description="Seed of the initial parameters and of the batch order, from 0 to 2^32 - 1."
        " It is not the student's seed, so that students of several seeds can share the network.",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="Optimizer that trains the network."
    )


class TrainedConfig(TrainingConfig):
    """A teacher or an assistant: a finished one under `path`, or one to train."""

    model: str = Field(
        default="plain_cnn:16 M 16 M FC",
        description="Network, in the same form as student.model.",
    )


class TeacherConfig(TrainedConfig):
    """The teacher, and the cache of the outputs of all teachers."""

    model: str = Field(
        default="plain_cnn:32 32 M 64 64 M FC64 FC",
        description="Network, in the same form as student.model.",
    )
    views: NonNegativeInt = Field(
        default=0,
        description="Number of augmented views of each example whose teacher outputs are stored"
        " once and then used in turn; 0 runs the teacher in every step. Assistants use it too.",
    )
    cache_dir: str = Field(
        default="",
        description="Folder of the stored outputs; empty for teacher_logits/ in the workdir.",
    )
    stored_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Data type of the stored outputs: 'float32' or 'bfloat16'."
    )
    stored_top_k: NonNegativeInt = Field(
        default=0,
        description="Number of the largest logits that are stored, with the logarithm of the sum"
        " of all exponentials, for large vocabularies; 0 stores all logits.",
    )


class StudentConfig(Section):
    """The student, and the number of epochs that every method trains it for."""

    model: str = Field(
        default="plain_cnn:8 M 8 M FC",
        description="Network as NAME:ARGUMENT with a name in akd_jax.models.MODELS, such as"
        " resnet:8; or huggingface:DIR for a pretrained folder; or huggingface:DIR,every=3 for"
        " every third of its layers; or huggingface:DIR,first=2 for its first two; or"
        " ngrams:BUCKETSxWIDTH,HIDDEN for short texts; or"
        " simkd:64,resnet:8 for the method simkd.",
    )
    frozen: str = Field(
        default="",
        description="Submodules or parameters that keep their initial values in every stage, with"
        " commas between their paths, such as embeddings,layer_0 of a pretrained student; empty to"
        " train all.",
    )
    epochs: PositiveInt = Field(
        default=400,
        description="Number of epochs of all stages together, at least 1, for l2kd those of each"
        " task; every method makes the same number of updates.",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(),
        description="Optimizer of the student, except in stage I of annealing_kd, the ramp of"
        " continuation_kd and the interpolation of seq_kd.",
    )


class RunSettings(Section):
    """The settings that all methods share. Each method adds a section with its own name."""

    method: str = Field(
        default="annealing_kd",
        description="Distillation method: a name in akd_jax.methods.METHODS.",
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the student's initial parameters and batch order, from 0 to 2^32 - 1.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Data type in which networks compute: 'float32' or 'bfloat16'.",
    )
    batch_size: PositiveInt = Field(
        default=128,
        description="Number of examples per update over all devices; the number of devices must"
        " divide it.",
    )
    grad_accumulation_steps: PositiveInt = Field(
        default=1,
        description="Number of parts into which each device splits its share of a batch; the"
        " gradients of the parts are added, which saves memory.",
    )
    skip_nonfinite: bool = Field(
        default=False,
        description="Whether updates with an infinite or NaN loss or gradient are skipped.",
    )
    steps_per_loop: PositiveInt = Field(
        default=1,
        description="Number of updates per call of the compiled program, at least 1; a larger"
        " number helps if a step takes less than a millisecond. Texts always use 1, since their"
        " batches have several lengths.",
    )
    checkpoint_every: PositiveInt = Field(
        default=10,
        description="Number of epochs between checkpoints; the last epoch of a stage is always"
        " saved.",
    )
    dataset: DatasetConfig = Field(
        default=DatasetConfig(), description="Data set, its splits and its augmentation."
    )
    teacher: TeacherConfig = Field(
        default=TeacherConfig(), description="Teacher, and the cache of teacher outputs."
    )
    student: StudentConfig = Field(
        default=StudentConfig(), description="Student network and its training."
    )
    variants: dict[str, dict[str, Any]] = Field(
        default={},
        description="Rows of a comparison besides the methods: the name of each row, with the"
        " fields that it changes. Only experiments.compare reads it.",
    )
    search: dict[str, dict[str, Any]] = Field(
        default={},
        description="Ranges of the fields that experiments.search varies: the name of each row,"
        " with its fields, which are (log, LOW, HIGH), (linear, LOW, HIGH) or (choice, VALUES...)."
        " Only that command reads it.",
    )

    def unlabelled_examples(self, stage: Stage) -> int:
        """Returns how many unlabelled examples a stage trains on beside the labelled ones."""
        return self.dataset.unlabelled_size if stage.teachers and stage.data is None else 0

    def section(self, kind: type[_Section]) -> _Section:
        """Returns the section of the given class, such as `kd.Config`.

        Raises:
          KeyError: the configuration has no such section.
        """
        for name in type(self).model_fields:
            value = getattr(self, name)
            if type(value) is kind:
                return value
        raise KeyError(f"the configuration has no section {kind.__module__}.{kind.__name__}")


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """A method as METHODS lists it.

    Attributes:
      build: returns the method for the settings of a run and the task of its data set. It
        raises InputError if the settings do not fit the method.
      config: the section of the configuration with the method's name; None if it has none.
      reads: the names of other methods whose sections this method reads too.
    """

    build: Callable[[RunSettings, Task], Method]
    config: type[Section] | None = None
    reads: tuple[str, ...] = ()


def teacher_recipe(
    section: TrainingConfig,
    field: str,
    method: Callable[[], Method],
    *,
    model: str | None = None,
    suffix: str = "",
    **settings: Any,
) -> Recipe:
    """Returns the recipe of a teacher that a section of the configuration describes.

    Args:
      section: the section.
      field: the full name of the section, such as 'teacher' or 'takd.assistant'.
      method: returns the method that trains the teacher.
      model: the network; None for the one that the section names.
      suffix: the end of the teacher's name, if the section describes several teachers.
      **settings: what the training depends on besides the section, as JSON values.
    """
    if section.path:
        return Pretrained(section.path + suffix, f"config.{field}.path", suffix)
    own = section.model_dump(include=set(TrainedConfig.model_fields) - {"path", "model", "seed"})
    if model is None:
        assert isinstance(section, TrainedConfig), "expected a section that names a network"
        model = section.model
    settings = {field: own, **settings}
    return Trained(model, method(), section.seed, settings, f"config.{field}.model", suffix)
