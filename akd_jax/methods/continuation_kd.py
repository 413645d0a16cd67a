"""Continuation-KD (Jafari et al., Findings of EMNLP 2022, https://arxiv.org/abs/2212.05998)."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from akd_jax import losses, schedules
from akd_jax.config import RunConfig
from akd_jax.errors import InputError
from akd_jax.methods import annealing_kd
from akd_jax.types import Batch, Loss, Method, Outputs, Stage

Psi = Callable[[Batch], jax.Array]  # Weight of the hard labels, scalar or [B].


def build(config: RunConfig) -> Method:
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
    settings = config.continuation_kd
    if settings.psi == "step":
        stage_1, stage_2 = annealing_kd.build(config).stages
        loss = continuation_loss(
            config.annealing_kd.class_reduction,
            settings.margin,
            stage_1.max_temperature,
            lambda batch: jnp.float32(0),
        )
        # With psi = 1 only the hard-label loss remains, which is stage II of Annealing-KD.
        return Method("continuation_kd", (dataclasses.replace(stage_1, loss=loss), stage_2))
    if settings.max_temperature > config.student.epochs:
        raise InputError(
            "config.continuation_kd.max_temperature: expected 1 to"
            f" {config.student.epochs}, the student's epochs, got {settings.max_temperature};"
            " each temperature needs at least one epoch"
        )

    if min(settings.psi_epochs, settings.psi_until) >= config.student.epochs:
        raise InputError(
            "config.continuation_kd: expected psi_epochs or psi_until below the student's"
            f" {config.student.epochs} epochs, got {settings.psi_epochs} and"
            f" {settings.psi_until}; otherwise psi never reaches 1"
        )

    def ramp(batch: Batch) -> jax.Array:
        assert batch.epochs is not None, "expected a batch with epochs"
        return schedules.mixing_weight(batch.epochs, settings.psi_epochs, settings.psi_until)

    stage = Stage(
        "continuation",
        config.student.epochs,
        continuation_loss(
            settings.class_reduction, settings.margin, settings.max_temperature, ramp
        ),
        settings.optimizer,
        max_temperature=settings.max_temperature,
        teachers=("teacher",),
    )
    return Method("continuation_kd", (stage,))


def continuation_loss(
    class_reduction: losses.ClassReduction, margin: float, max_temperature: int, psi: Psi
) -> Loss:
    """Returns the loss function `losses.continuation` with the outputs of the teacher.

    Args:
      class_reduction: 'mean' or 'sum'.
      margin: m >= 0, in squared logits.
      max_temperature: tau_max.
      psi: maps a batch to the weight of the hard labels.
    """

    def loss(
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        return losses.continuation(
            student.logits,
            teachers["teacher"].logits,
            batch.labels,
            temperature_step,
            max_temperature,
            psi=psi(batch),
            margin=margin,
            class_reduction=class_reduction,
        )

    return loss
