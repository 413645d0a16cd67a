"""Vanilla knowledge distillation (Hinton et al., 2015, https://arxiv.org/abs/1503.02531)."""

from collections.abc import Mapping

import jax

from akd_jax import losses
from akd_jax.config import RunConfig
from akd_jax.types import Batch, Method, Outputs, Stage


def kd(config: RunConfig) -> Method:
    """One stage with the loss (1 - a) CE(z_s, label) + a T^2 KL(teacher_T || student_T).

    a is `config.kd.weight`, T is `config.kd.temperature`.
    """
    weight, temperature = config.kd.weight, config.kd.temperature

    def loss(
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        del temperature_step  # KD's temperature stays where it is.
        hard = losses.hard_label(student.logits, batch.labels)
        soft = losses.distillation_kl(student.logits, teachers["teacher"].logits, temperature)
        return (1 - weight) * hard + weight * soft

    stage = Stage(
        "kd", config.student.epochs, loss, config.student.optimizer, teachers=("teacher",)
    )
    return Method("kd", (stage,))
