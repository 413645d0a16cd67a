"""Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163).

The defaults are those of the paper. Stage I has other settings: a learning rate that stays high
until the sharp logits come, errors that are weighted by the teacher's probabilities, and logits
without their mean or with the variance 1. Stage II can keep the teacher as a part of its loss.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Fraction, Positive, PositiveInt, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.kd import soft_target_stage
from akd_jax.methods.scratch import default_teacher, supervised_loss
from akd_jax.training.evaluate import Predictor
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage, StageContext
from akd_jax.types import Batch, Clock, Loss, Outputs, Task, Term, Variables

_SCALE = "teacher_scale"  # The collection with the standard deviation of the teacher's logits.


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
    error: Literal["squared", "weighted"] = Field(
        default="squared",
        description="Error of the logits: 'squared' counts all classes alike; 'weighted' weighs"
        " them by the teacher's probabilities, see losses.weighted_annealed_mse.",
    )
    weight_temperature: Positive = Field(
        default=2.0,
        description="Softmax temperature of the probabilities that weigh the error 'weighted'.",
    )
    teacher_logits: Literal["raw", "centred", "scaled"] = Field(
        default="raw",
        description="Targets: 'raw', the teacher's logits; 'centred', minus their mean over the"
        " classes, which a softmax does not see; 'scaled', centred and divided by their standard"
        " deviation over the training split.",
    )
    student: Literal["best", "last"] = Field(
        default="best",
        description="Student that stage II starts from: the best one of stage I, or the last one,"
        " which has seen the teacher's logits with Phi = 1.",
    )


class StageTwoConfig(Section):
    """Settings of stage II of Annealing-KD."""

    kd_weight: Fraction = Field(
        default=0.0,
        description="Weight of the KL divergence from the teacher beside the labels, which have"
        " the weight 1 - kd_weight; 0 as in the paper.",
    )
    temperature: Positive = Field(
        default=4.0, description="Softmax temperature of this divergence, greater than 0."
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
    stage_2: StageTwoConfig = Field(
        default=StageTwoConfig(), description="Stage II, in which it learns the labels."
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns two stages: the first learns the teacher's annealed logits, the second the labels.

    Stage I minimises mean_c (z_s - Phi(T) z_t)^2 while T falls from tau_max to 1. Stage II
    starts from the best student of stage I and minimises the cross-entropy, or the squared error
    in a regression. Both stages together have `config.student.epochs` epochs, so that the student
    makes as many updates as with the other methods.

    Raises:
      InputError: no epoch remains for stage II, tau_max exceeds the epochs of stage I, or the
        targets of stage I do not fit the task.
    """
    settings = config.section(Config)
    epochs = settings.stage_1.epochs
    if epochs >= config.student.epochs:
        raise InputError(
            f"config.annealing_kd.stage_1.epochs: expected fewer than config.student.epochs ="
            f" {config.student.epochs}, got {epochs}; reduce it, since stage II trains for the rest"
        )
    tau_max = settings.max_temperature
    if tau_max > epochs:
        raise InputError(
            f"config.annealing_kd.max_temperature: expected 1 to {epochs}, the epochs of stage I,"
            f" got {tau_max}; reduce it, since each temperature needs an epoch"
        )
    if task.regression:
        check_plain_targets(settings.stage_1, "a regression")
    if task.target is not None and settings.stage_1.teacher_logits == "scaled":
        raise InputError(
            "config.annealing_kd.stage_1.teacher_logits: expected raw or centred for texts to"
            " generate, got scaled; choose another"
        )
    phi = schedules.annealing_factor(tau_max)
    targets = settings.stage_1.teacher_logits
    stage_1 = Stage(
        "stage_1",
        epochs,
        _stage_1_loss(settings, phi),
        settings.stage_1.optimizer,
        loss_data=_teacher_scale if targets == "scaled" else None,
        teachers=("teacher",),
        temperature_step=schedules.temperature_step(epochs, tau_max),
        schedules={"temperature": schedules.temperature(tau_max), "phi": phi},
        select=(task.metric, "last") if settings.stage_1.student == "last" else None,
    )
    return Method(
        "annealing_kd", (stage_1, _stage_2(config, settings, task)), default_teacher(config)
    )


def check_plain_targets(stage: StageOneConfig, reader: str) -> None:
    """Raises InputError unless stage I has squared errors of the teacher's own logits."""
    if (stage.error, stage.teacher_logits) != ("squared", "raw"):
        raise InputError(
            "config.annealing_kd.stage_1: expected error=squared and teacher_logits=raw for"
            f" {reader}, got {stage.error} and {stage.teacher_logits}; reset them"
        )


def _stage_1_loss(settings: Config, phi: schedules.Schedule) -> Loss:
    """Returns the loss of stage I."""
    stage = settings.stage_1
    if stage.error == "weighted":
        loss = losses.bind(
            losses.weighted_annealed_mse, factor=phi, temperature=stage.weight_temperature
        )
    else:
        loss = losses.bind(
            losses.annealed_mse, factor=phi, class_reduction=settings.class_reduction
        )
    if stage.teacher_logits == "raw":
        return loss
    return CentredTargets(loss, stage.teacher_logits == "scaled")


def _stage_2(config: RunSettings, settings: Config, task: Task) -> Stage:
    """Returns stage II: the labels, and beside them the teacher if its weight is not 0."""
    epochs = config.student.epochs - settings.stage_1.epochs
    optimizer, weight = config.student.optimizer, settings.stage_2.kd_weight
    if weight == 0:
        return Stage("stage_2", epochs, supervised_loss, optimizer, start="stage_1")
    stage = soft_target_stage(
        "stage_2",
        epochs,
        optimizer,
        task,
        weight=weight,
        temperature=settings.stage_2.temperature,
        teachers=("teacher",),
        target=lambda outputs: outputs["teacher"].logits,
    )
    return dataclasses.replace(stage, start="stage_1")


class CentredTargets(nn.Module):
    """A loss whose teacher has centred logits, z_t - mean_c z_t, or scaled ones.

    Scaled logits are (z_t - mean_c z_t) / s, where s is the root of the mean of
    (z_t - mean_c z_t)^2 over the classes and the training split. Phi z_t then has the variance
    Phi^2, whatever the teacher.

    Attributes:
      loss: the loss of student and teacher.
      scaled: whether the centred logits are divided by s, which is in the collection
        'teacher_scale'.
    """

    loss: Loss
    scaled: bool

    @nn.compact
    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> jax.Array | Mapping[str, Term]:
        """Returns the values of the loss."""
        teacher = teachers["teacher"]
        target = _centred(teacher.logits.astype(jnp.float32))
        if self.scaled:
            target = target / self.variable(_SCALE, "value", jnp.ones, ()).value
        changed = {**teachers, "teacher": Outputs(target)}
        return self.loss(student, changed, batch, clock)


def _centred(logits: jax.Array) -> jax.Array:
    return logits - logits.mean(axis=-1, keepdims=True)


def _teacher_scale(context: StageContext) -> Variables:
    """Returns the standard deviation of the teacher's centred logits on the training split."""
    logits = Predictor()(context.models["teacher"], context.batches("train")).logits
    return {_SCALE: {"value": jnp.sqrt(jnp.square(_centred(jnp.float32(logits))).mean())}}


SPEC = MethodSpec(build, Config)
