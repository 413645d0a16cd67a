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

Psi = Callable[[Batch], jax.Array]  # The weight of the hard labels for each example, [B].


def build(config: RunConfig) -> Method:
    """From the annealed teacher to the hard labels, without a break between them.

    The loss is psi CE(z_s, label) + (1 - psi) max(0, mean_c (z_s - Phi z_t)^2 - m Phi), with
    the margin m. With psi 'ramp' there is one stage, in which psi(i) = i / psi_epochs until
    epoch i = psi_until, and 1 from then on. With psi 'step' it is 0 until it is 1: these are
    Annealing-KD's two stages, with its settings; with margin 0 it is Annealing-KD.

    Raises:
      InputError: max_temperature is over the epochs, psi never reaches 1, or stage I leaves no
        epoch for stage II.
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
        # Where psi is 1, only the cross-entropy of Annealing-KD's stage II is left.
        return Method("continuation_kd", (dataclasses.replace(stage_1, loss=loss), stage_2))
    if settings.max_temperature > config.student.epochs:
        raise InputError(
            "config.continuation_kd.max_temperature: expected 1 to"
            f" {config.student.epochs}, the student's epochs, got {settings.max_temperature};"
            " each temperature needs an epoch of its own"
        )

    if min(settings.psi_epochs, settings.psi_until) >= config.student.epochs:
        raise InputError(
            "config.continuation_kd: expected psi_epochs or psi_until under the student's"
            f" {config.student.epochs} epochs, got {settings.psi_epochs} and"
            f" {settings.psi_until}; else the student never learns from the hard labels alone"
        )

    def ramp(batch: Batch) -> jax.Array:
        assert batch.epochs is not None, "expected a batch that knows its epoch"
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
    """`losses.continuation` against the teacher.

    Args:
      class_reduction: 'mean' or 'sum'.
      margin: m.
      max_temperature: tau_max.
      psi: the weight of the hard labels for a batch.
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
