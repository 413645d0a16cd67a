"""Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163)."""

from collections.abc import Mapping

import jax

from akd_jax import losses
from akd_jax.config import RunConfig
from akd_jax.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.types import Batch, Method, Outputs, Stage


def build(config: RunConfig) -> Method:
    """Returns two stages: the first learns the teacher's annealed logits, the second the labels.

    Stage I minimises mean_c (z_s - Phi(T) z_t)^2 while T falls from tau_max to 1. Stage II
    starts from the best student of stage I and minimises the cross-entropy, or the squared error
    in a regression. Both stages together have `config.student.epochs` epochs, so that the student
    makes as many updates as with the other methods.

    Raises:
      InputError: no epoch remains for stage II, or tau_max exceeds the epochs of stage I.
    """
    settings = config.annealing_kd
    epochs = settings.stage_1.epochs
    if epochs >= config.student.epochs:
        raise InputError(
            f"config.annealing_kd.stage_1.epochs: expected fewer than config.student.epochs ="
            f" {config.student.epochs}, got {epochs}; stage II trains for the remaining epochs"
        )
    max_temperature = settings.max_temperature
    if max_temperature > epochs:
        raise InputError(
            f"config.annealing_kd.max_temperature: expected 1 to {epochs}, the epochs of stage I,"
            f" got {max_temperature}; each temperature needs at least one epoch"
        )

    def annealed_loss(
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        del batch  # Stage I does not use the labels.
        return losses.annealed_mse(
            student.logits,
            teachers["teacher"].logits,
            temperature_step,
            max_temperature,
            class_reduction=settings.class_reduction,
        )

    stage_1 = Stage(
        "stage_1",
        epochs,
        annealed_loss,
        settings.stage_1.optimizer,
        max_temperature=max_temperature,
        teachers=("teacher",),
    )
    stage_2 = Stage(
        "stage_2",
        config.student.epochs - epochs,
        supervised_loss,
        config.student.optimizer,
        start="stage_1",
    )
    return Method("annealing_kd", (stage_1, stage_2))
