"""Schema of a run's configuration: the fields, their types, ranges and descriptions.

The files in `configs/` hold the values as ml_collections ConfigDicts. `parse` checks them
before anything else happens and returns them in the typed form that the library reads.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from ml_collections import config_dict
from pydantic import Field

from akd_jax.errors import InputError

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Section(pydantic.BaseModel):
    """Base of all sections: unknown fields, type conversions and later changes are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class OptimizerConfig(Section):
    """Settings of one stage's optimizer; see `akd_jax.optimizers`."""

    name: Literal["sgd", "adamw"] = Field(default="sgd", description="Optimizer: 'sgd' or 'adamw'.")
    learning_rate: Positive = Field(
        description="Learning rate at the start of the schedule, greater than 0."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Momentum of sgd, from 0 to less than 1; adamw does not use it."
    )
    weight_decay: NonNegative = Field(default=0.0, description="Weight decay, at least 0.")
    clip_norm: NonNegative = Field(
        default=0.0, description="Largest global norm of the gradient; 0 turns clipping off."
    )
    schedule: Literal["constant", "step", "linear", "cosine"] = Field(
        default="constant",
        description="Learning-rate schedule: 'constant'; 'step', which multiplies the rate by 0.1"
        " at 1/2 and at 3/4 of the updates; 'linear' or 'cosine', which fall to 0.",
    )
    restart_each_temperature: bool = Field(
        default=False,
        description="Whether the schedule restarts at each temperature. The momentum is kept.",
    )


class DatasetConfig(Section):
    """The data set, its splits and its augmentation; see `akd_jax.data`."""

    name: str = Field(description="Data set: a name in akd_jax.data.DATASETS.")
    data_dir: str = Field(
        description="Folder of the data set; empty for the default folder of its reader."
    )
    validation_size: NonNegativeInt = Field(
        description="Number of examples held out of the training split for validation; 0 uses the"
        " data set's own validation split."
    )
    train_size: NonNegativeInt = Field(
        description="Number of examples to train on, after the validation split; 0 uses all."
    )
    crop_padding: NonNegativeInt = Field(
        description="Pixels of padding around an image before a random crop; 0 turns crops off."
    )
    flip: bool = Field(description="Whether images are flipped horizontally at random.")
    max_length: PositiveInt = Field(
        default=128,
        description="Largest length of a text in tokens, at least 3; longer ones are cut off.",
    )
    bucketing: bool = Field(
        default=True,
        description="Whether batches hold texts of similar lengths, so that they need less"
        " padding.",
    )
    seed: Seed = Field(
        description="Seed of the validation split and of the augmentation, from 0 to 2^32 - 1;"
        " the same for the teacher and for all students."
    )


class TrainedConfig(Section):
    """A teacher or an assistant: a finished one under `path`, or one to train."""

    path: str = Field(
        description="Folder of a finished teacher: a run folder or a fine-tuned Hugging Face"
        " folder; empty to train the network."
    )
    model: str = Field(description="Network, in the same form as student.model.")
    epochs: PositiveInt = Field(description="Number of training epochs, at least 1.")
    seed: Seed = Field(
        description="Seed of the initial parameters and of the batch order, from 0 to 2^32 - 1."
        " It is not the student's seed, so that students of several seeds can share the network."
    )
    optimizer: OptimizerConfig = Field(description="Optimizer that trains the network.")


class TeacherConfig(TrainedConfig):
    """The teacher, and the cache of the logits of all teachers."""

    views: NonNegativeInt = Field(
        description="Number of augmented views of each example whose teacher logits are stored"
        " once and then used in turn; 0 runs the teacher in every step. Assistants use it too."
    )
    cache_dir: str = Field(
        description="Folder of the stored logits; empty for teacher_logits/ in the workdir."
    )


class StudentConfig(Section):
    """The student, and the number of epochs that every method trains it for."""

    model: str = Field(
        description="Network as NAME:ARGUMENT with a name in akd_jax.models.MODELS, such as"
        " resnet:8; or huggingface:DIR for a pretrained folder; or huggingface:DIR,every=3 for"
        " every third of its layers."
    )
    epochs: PositiveInt = Field(
        description="Number of epochs of all stages together, at least 1; every method makes the"
        " same number of updates."
    )
    optimizer: OptimizerConfig = Field(
        description="Optimizer of scratch, kd and takd, and of stage II of annealing_kd."
    )


class KDConfig(Section):
    """Settings of `akd_jax.methods.kd`."""

    temperature: Positive = Field(description="Softmax temperature T, greater than 0.")
    weight: Fraction = Field(
        description="Weight of the soft-label loss, from 0 to 1; the hard-label loss has the"
        " weight 1 - weight."
    )


class TAKDConfig(Section):
    """Settings of `akd_jax.methods.takd`."""

    assistant: TrainedConfig = Field(
        description="The teacher assistant, which learns from the teacher by kd."
    )


class StageOneConfig(Section):
    """Settings of stage I of Annealing-KD."""

    epochs: PositiveInt = Field(
        description="Number of epochs of stage I, at least 1 and fewer than student.epochs; stage"
        " II trains for the remaining epochs."
    )
    optimizer: OptimizerConfig = Field(description="Optimizer of stage I.")


class AnnealingKDConfig(Section):
    """Settings of `akd_jax.methods.annealing_kd`."""

    max_temperature: PositiveInt = Field(
        description="Largest temperature tau_max, from 1 to stage_1.epochs; it falls to 1."
    )
    class_reduction: Literal["mean", "sum"] = Field(
        description="Reduction of the squared errors over the classes: 'mean' as in the authors'"
        " code, or 'sum' as in the paper's formula."
    )
    stage_1: StageOneConfig = Field(
        description="Stage I, in which the student learns the teacher's annealed logits."
    )


class ContinuationKDConfig(Section):
    """Settings of `akd_jax.methods.continuation_kd`."""

    max_temperature: PositiveInt = Field(
        description="Largest temperature tau_max, from 1 to student.epochs; it falls to 1."
    )
    margin: NonNegative = Field(
        description="Margin m in squared logits, at least 0; an error below m * Phi gives no loss."
    )
    psi: Literal["ramp", "step"] = Field(
        description="Schedule of psi, the weight of the hard labels: 'ramp' rises linearly; 'step'"
        " is 0 and then 1, and uses the stages and settings of annealing_kd with this margin."
    )
    psi_epochs: PositiveInt = Field(
        description="Number of epochs in which the ramp rises from 0 to 1, at least 1."
    )
    psi_until: PositiveInt = Field(
        description="Epoch from which psi is 1, even if the ramp has not reached 1, at least 1."
    )
    class_reduction: Literal["mean", "sum"] = Field(
        description="Reduction of the squared errors over the classes: 'mean' or 'sum'."
    )
    optimizer: OptimizerConfig = Field(description="Optimizer of the single stage of the ramp.")


class RunConfig(Section):
    """All settings of a run. Each field has a description."""

    method: str = Field(description="Distillation method: a name in akd_jax.methods.METHODS.")
    seed: Seed = Field(
        description="Seed of the student's initial parameters and batch order, from 0 to 2^32 - 1."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        description="Data type in which networks compute: 'float32' or 'bfloat16'."
    )
    batch_size: PositiveInt = Field(
        description="Number of examples per update over all devices; the number of devices must"
        " divide it."
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
        description="Number of epochs between checkpoints; the last epoch of a stage is always"
        " saved."
    )
    dataset: DatasetConfig = Field(description="Data set, its splits and its augmentation.")
    teacher: TeacherConfig = Field(description="Teacher, and the cache of teacher logits.")
    student: StudentConfig = Field(description="Student network and its training.")
    kd: KDConfig = Field(description="Settings of vanilla KD.")
    takd: TAKDConfig = Field(description="Settings of teacher-assistant KD.")
    annealing_kd: AnnealingKDConfig = Field(description="Settings of Annealing-KD.")
    continuation_kd: ContinuationKDConfig = Field(description="Settings of Continuation-KD.")


def parse(config: config_dict.ConfigDict | Mapping[str, Any]) -> RunConfig:
    """Returns a configuration in its typed form, after checking it.

    Args:
      config: an ml_collections ConfigDict, or the nested dict of a `config.json`.

    Raises:
      InputError: a field is unknown, missing, of the wrong type or out of range. The message
        names the field, the expected value and the actual value.
    """
    fields = config.to_dict() if isinstance(config, config_dict.ConfigDict) else dict(config)
    try:
        return RunConfig.model_validate(fields)
    except pydantic.ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(_error_message(problems[0]) + more) from None


def unknown_field(field: str, known: Iterable[str]) -> str:
    """Returns the error message for an unknown field, with the most similar known name.

    Args:
      field: the full name, such as 'config.student.epoch'.
      known: the names of the section's fields.
    """
    nearest = difflib.get_close_matches(field.rpartition(".")[2], list(known), n=1, cutoff=0.0)
    return f"{field}: unknown field; did you mean {nearest[0]!r}?"


def _error_message(problem: Any) -> str:
    """Returns the message of one of pydantic's error records, in one line."""
    parents = problem["loc"][:-1]
    field = ".".join(["config", *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return unknown_field(field, _field_names(tuple(parents)))
    if problem["type"] == "missing":
        return f"{field}: missing; give it a value as configs/default.py does"
    return describe(problem, field)


def describe(problem: Any, field: str | None = None) -> str:
    """Returns one line with a field's name, the expected value and the actual value.

    Args:
      problem: one of pydantic's error records.
      field: the field's full name; by default pydantic's location of the problem.
    """
    field = ".".join(map(str, problem["loc"])) if field is None else field
    if problem["type"] == "missing":
        return f"expected {field}, got none"
    message = problem["msg"].replace("Input should be", "expected").replace("Value error, ", "")
    return f"{field}: {message}, got {problem['input']!r}" if field else message


def _field_names(path: tuple[str, ...]) -> list[str]:
    """Returns the names of the fields of the section at `path`."""
    section: Any = RunConfig
    for name in path:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
