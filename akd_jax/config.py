"""The fields a run's configuration has, their kinds and their ranges.

`configs/*.py` hold the values, as ml_collections; this file is what they are checked
against before anything else happens, and the typed form in which the library reads them.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from ml_collections import config_dict
from pydantic import Field

from akd_jax.errors import InputError

PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Section(pydantic.BaseModel):
    """A section of the configuration: no unknown fields, no conversions, no later changes."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class OptimizerConfig(_Section):
    """Settings of one stage's optimizer; see `akd_jax.optimizers`."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 0.0
    clip_norm: NonNegative = 0.0
    schedule: Literal["constant", "step", "linear", "cosine"] = "constant"
    restart_each_temperature: bool = False


class DatasetConfig(_Section):
    """Which data set, its splits and its augmentation; see `akd_jax.data`."""

    name: str
    data_dir: str
    validation_size: Annotated[int, Field(ge=0)]
    train_size: Annotated[int, Field(ge=0)]
    crop_padding: Annotated[int, Field(ge=0)]
    flip: bool
    max_length: PositiveInt = 128
    bucketing: bool = True
    seed: Seed


class TrainedConfig(_Section):
    """A network that teaches: trained as this says, or found under `path`."""

    path: str
    model: str
    epochs: PositiveInt
    seed: Seed
    optimizer: OptimizerConfig


class TeacherConfig(TrainedConfig):
    """The teacher, and the cache of all teachers' logits."""

    views: Annotated[int, Field(ge=0)]
    cache_dir: str


class StudentConfig(_Section):
    """The student, and the updates every method may spend on it."""

    model: str
    epochs: PositiveInt
    optimizer: OptimizerConfig


class KDConfig(_Section):
    """Settings of `akd_jax.methods.kd`."""

    temperature: Positive
    weight: Fraction


class TAKDConfig(_Section):
    """Settings of `akd_jax.methods.takd`."""

    assistant: TrainedConfig


class StageOneConfig(_Section):
    """Settings of Annealing-KD's stage I."""

    epochs: PositiveInt
    optimizer: OptimizerConfig


class AnnealingKDConfig(_Section):
    """Settings of `akd_jax.methods.annealing_kd`."""

    max_temperature: PositiveInt
    class_reduction: Literal["mean", "sum"]
    stage_1: StageOneConfig


class ContinuationKDConfig(_Section):
    """Settings of `akd_jax.methods.continuation_kd`."""

    max_temperature: PositiveInt
    margin: NonNegative
    psi: Literal["ramp", "step"]
    psi_epochs: PositiveInt
    psi_until: PositiveInt
    class_reduction: Literal["mean", "sum"]
    optimizer: OptimizerConfig


class RunConfig(_Section):
    """Everything a person decides about a run. `configs/default.py` explains each field."""

    method: str
    seed: Seed
    dtype: Literal["float32", "bfloat16"]
    batch_size: PositiveInt
    grad_accumulation_steps: PositiveInt = 1
    skip_nonfinite: bool = False
    steps_per_loop: PositiveInt = 1
    checkpoint_every: PositiveInt
    dataset: DatasetConfig
    teacher: TeacherConfig
    student: StudentConfig
    kd: KDConfig
    takd: TAKDConfig
    annealing_kd: AnnealingKDConfig
    continuation_kd: ContinuationKDConfig


def parse(config: config_dict.ConfigDict | Mapping[str, Any]) -> RunConfig:
    """Checks a configuration and returns it typed.

    Args:
      config: an ml_collections ConfigDict, or the nested dict of a `config.json`.

    Raises:
      InputError: a field is unknown, missing, of the wrong kind or out of its range. The
        message names the field, what was expected and what came.
    """
    fields = config.to_dict() if isinstance(config, config_dict.ConfigDict) else dict(config)
    try:
        return RunConfig.model_validate(fields)
    except pydantic.ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(_describe(problems[0]) + more) from None


def unknown_field(field: str, known: Iterable[str]) -> str:
    """The error message for a field such as 'config.student.epoch', with the nearest known name."""
    nearest = difflib.get_close_matches(field.rpartition(".")[2], list(known), n=1, cutoff=0.0)
    return f"{field}: unknown field; did you mean {nearest[0]!r}?"


def _describe(problem: Any) -> str:
    """One line for one of pydantic's error records."""
    parents = problem["loc"][:-1]
    field = ".".join(["config", *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return unknown_field(field, _fields(tuple(parents)))
    if problem["type"] == "missing":
        return f"{field}: missing; give it a value as configs/default.py does"
    return describe(problem, field)


def describe(problem: Any, field: str | None = None) -> str:
    """What pydantic found wrong with a field: its name, what was expected, and what came."""
    field = ".".join(map(str, problem["loc"])) if field is None else field
    if problem["type"] == "missing":
        return f"expected {field}, got none"
    message = problem["msg"].replace("Input should be", "expected").replace("Value error, ", "")
    return f"{field}: {message}, got {problem['input']!r}" if field else message


def _fields(path: tuple[str, ...]) -> list[str]:
    """Names of the fields of the section at `path`."""
    section: Any = RunConfig
    for name in path:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
