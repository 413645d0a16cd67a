"""Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163)."""

from typing import Literal

from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.errors import InputError
from akd_jax.host.settings import PositiveInt, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher, supervised_loss
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Task


class StageOneConfig(Section):
    """Settings of stage I of Annealing-KD."""

    epochs: PositiveInt = Field(
        default=200,
        description="Number of epochs of stage I, at least 1 and fewer than student.epochs; stage"
        " II trains for the remaining epochs.",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="Optimizer of stage I."
    )


class Config(Section):
    """Settings of Annealing-KD."""

    max_temperature: PositiveInt = Field(
        default=10,
        description="Largest temperature tau_max, from 1 to stage_1.epochs; it falls to 1.",
    )
    class_reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="Reduction of the squared errors over the classes: 'mean' as in the authors'"
        " code, or 'sum' as in the paper's formula.",
    )
    stage_1: StageOneConfig = Field(
        default=StageOneConfig(),
        description="Stage I, in which the student learns the teacher's annealed logits.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns two stages: the first learns the teacher's annealed logits, the second the labels.

    Stage I minimises mean_c (z_s - Phi(T) z_t)^2 while T falls from tau_max to 1. Stage II
    starts from the best student of stage I and minimises the cross-entropy, or the squared error
    in a regression. Both stages together have `config.student.epochs` epochs, so that the student
    makes as many updates as with the other methods.

    Raises:
      InputError: no epoch remains for stage II, or tau_max exceeds the epochs of stage I.
    """
    del task
    settings = config.section(Config)
    epochs = settings.stage_1.epochs
    if epochs >= config.student.epochs:
        raise InputError(
            f"config.annealing_kd.stage_1.epochs: expected fewer than config.student.epochs ="
            f" {config.student.epochs}, got {epochs}; stage II trains for the remaining epochs"
        )
    tau_max = settings.max_temperature
    if tau_max > epochs:
        raise InputError(
            f"config.annealing_kd.max_temperature: expected 1 to {epochs}, the epochs of stage I,"
            f" got {tau_max}; each temperature needs at least one epoch"
        )
    phi = schedules.annealing_factor(tau_max)
    stage_1 = Stage(
        "stage_1",
        epochs,
        losses.bind(losses.annealed_mse, factor=phi, class_reduction=settings.class_reduction),
        settings.stage_1.optimizer,
        teachers=("teacher",),
        temperature_step=schedules.temperature_step(epochs, tau_max),
        schedules={"temperature": schedules.temperature(tau_max), "phi": phi},
    )
    stage_2 = Stage(
        "stage_2",
        config.student.epochs - epochs,
        supervised_loss,
        config.student.optimizer,
        start="stage_1",
    )
    return Method("annealing_kd", (stage_1, stage_2), default_teacher(config))


SPEC = MethodSpec(build, Config)
