"""Vanilla knowledge distillation (Hinton et al., 2015, https://arxiv.org/abs/1503.02531)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from akd_jax import losses
from akd_jax.config import KDConfig, OptimizerConfig, RunConfig
from akd_jax.types import Batch, Loss, Method, Outputs, Stage


def kd_loss(config: KDConfig, teacher: str) -> Loss:
    """Returns the loss (1 - a) CE(z_s, label) + a T^2 KL(softmax(z_t / T) || softmax(z_s / T)).

    A regression has no class probabilities. Its loss is
    (1 - a) (z_s - label)^2 + a (z_s - z_t)^2.

    Args:
      config: the settings; a is `weight`, T is `temperature`.
      teacher: the name of the teacher.
    """

    def loss(
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        del temperature_step  # The temperature of KD is constant.
        target = teachers[teacher].logits
        hard = losses.supervised(student.logits, batch.labels)
        if jnp.issubdtype(batch.labels.dtype, jnp.floating):
            soft = losses.annealed_mse(student.logits, target, 0, 1)  # Phi = 1.
        else:
            soft = losses.distillation_kl(student.logits, target, config.temperature)
        return (1 - config.weight) * hard + config.weight * soft

    return loss


def kd_stage(
    name: str, epochs: int, optimizer: OptimizerConfig, config: KDConfig, teacher: str
) -> Stage:
    """Returns a stage with `kd_loss`, which records the temperature that the loss uses.

    Args:
      name: the name of the stage.
      epochs: its epochs.
      optimizer: the settings of its optimizer.
      config: the settings of the loss.
      teacher: the name of the teacher.
    """
    loss = kd_loss(config, teacher)
    return Stage(name, epochs, loss, optimizer, temperature=config.temperature, teachers=(teacher,))


def build(config: RunConfig) -> Method:
    """Returns one stage with `kd_loss` and the teacher."""
    student = config.student
    return Method("kd", (kd_stage("kd", student.epochs, student.optimizer, config.kd, "teacher"),))
