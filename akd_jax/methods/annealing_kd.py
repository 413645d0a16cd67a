"""Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163)."""

from collections.abc import Mapping

import jax

from akd_jax import losses
from akd_jax.config import RunConfig
from akd_jax.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.types import Batch, Method, Outputs, Stage


def build(config: RunConfig) -> Method:
    """Two stages: the annealed teacher's logits first, then the hard labels.

    Stage I minimises mean_c (z_s - Phi(T) z_t)^2 while T falls from tau_max to 1; stage II
    starts from the best student of stage I and minimises cross-entropy, or the squared error
    in a regression. Stage II has the epochs of `config.student.epochs` that stage I leaves, so
    that the student makes as many updates as under the one-stage methods.

    Raises:
      InputError: stage I leaves no epoch for stage II, or tau_max is over stage I's epochs.
    """
    settings = config.annealing_kd
    epochs = settings.stage_1.epochs
    if epochs >= config.student.epochs:
        raise InputError(
            f"config.annealing_kd.stage_1.epochs: expected fewer than config.student.epochs ="
            f" {config.student.epochs}, got {epochs}; stage II trains for the rest"
        )
    max_temperature = settings.max_temperature
    if max_temperature > epochs:
        raise InputError(
            f"config.annealing_kd.max_temperature: expected 1 to {epochs}, the epochs of stage I,"
            f" got {max_temperature}; each temperature needs an epoch of its own"
        )

    def annealed(
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        del batch  # Stage I sees no label.
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
        annealed,
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
