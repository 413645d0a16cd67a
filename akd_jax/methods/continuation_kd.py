"""Continuation-KD (Jafari et al., Findings of EMNLP 2022, https://arxiv.org/abs/2212.05998)."""

import dataclasses
from typing import Literal

from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.errors import InputError
from akd_jax.host.settings import NonNegative, PositiveInt, Section
from akd_jax.methods import annealing_kd
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Task


class Config(Section):
    """Settings of Continuation-KD."""

    max_temperature: PositiveInt = Field(
        default=20,
        description="Largest temperature tau_max, from 1 to student.epochs; it falls to 1.",
    )
    margin: NonNegative = Field(
        default=0.0,
        description="Margin m in squared logits, at least 0; an error below m * Phi gives no loss.",
    )
    psi: Literal["ramp", "step"] = Field(
        default="ramp",
        description="Schedule of psi, the weight of the hard labels: 'ramp' rises linearly; 'step'"
        " is 0 and then 1, and uses the stages and settings of annealing_kd with this margin.",
    )
    psi_epochs: PositiveInt = Field(
        default=300,
        description="Number of epochs in which the ramp rises from 0 to 1, at least 1.",
    )
    psi_until: PositiveInt = Field(
        default=300,
        description="Epoch from which psi is 1, even if the ramp has not reached 1, at least 1.",
    )
    class_reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="Reduction of the squared errors over the classes: 'mean' or 'sum'.",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="Optimizer of the single stage of the ramp."
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns the stages of a gradual change from the annealed teacher to the hard labels.

    The loss is psi CE(z_s, label) + (1 - psi) max(0, mean_c (z_s - Phi z_t)^2 - m Phi) with
    the margin m. With psi 'ramp' there is one stage: psi(i) = i / psi_epochs for epochs
    i < psi_until, and psi = 1 from then on. With psi 'step' there are the two stages of
    Annealing-KD with its settings: psi is 0 in stage I and 1 in stage II. With psi 'step' and
    margin 0 the method is Annealing-KD.

    Raises:
      InputError: max_temperature exceeds the epochs, psi never reaches 1, or no epoch remains
        for stage II.
    """
    settings = config.section(Config)
    if settings.psi == "step":
        annealing = config.section(annealing_kd.Config)
        annealing_kd.check_plain_targets(annealing.stage_1, "continuation_kd")
        method = annealing_kd.build(config, task)
        stage_1, stage_2 = method.stages
        # With psi = 1 only the hard-label loss remains, which is stage II of Annealing-KD.
        stage_1 = dataclasses.replace(
            stage_1,
            loss=losses.bind(
                losses.continuation,
                factor=stage_1.schedules["phi"],
                psi=0.0,
                margin=settings.margin,
                class_reduction=annealing.class_reduction,
            ),
        )
        return dataclasses.replace(method, name="continuation_kd", stages=(stage_1, stage_2))
    epochs, tau_max = config.student.epochs, settings.max_temperature
    if tau_max > epochs:
        raise InputError(
            "config.continuation_kd.max_temperature: expected 1 to"
            f" {epochs}, the student's epochs, got {tau_max}; reduce it, since each temperature"
            " needs an epoch"
        )
    if min(settings.psi_epochs, settings.psi_until) >= epochs:
        raise InputError(
            "config.continuation_kd: expected psi_epochs or psi_until below the student's"
            f" {epochs} epochs, got {settings.psi_epochs} and"
            f" {settings.psi_until}; reduce one, otherwise psi never reaches 1"
        )
    phi = schedules.annealing_factor(tau_max)
    psi = schedules.mixing_weight(settings.psi_epochs, settings.psi_until)
    stage = Stage(
        "continuation",
        epochs,
        losses.bind(
            losses.continuation,
            factor=phi,
            psi=psi,
            margin=settings.margin,
            class_reduction=settings.class_reduction,
        ),
        settings.optimizer,
        teachers=("teacher",),
        temperature_step=schedules.temperature_step(epochs, tau_max),
        schedules={"temperature": schedules.temperature(tau_max), "phi": phi, "psi": psi},
    )
    return Method("continuation_kd", (stage,), default_teacher(config))


SPEC = MethodSpec(build, Config, reads=("annealing_kd",))
