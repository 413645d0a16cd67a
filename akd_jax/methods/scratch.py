"""A network on its own: it learns from the hard labels, no teacher."""

from collections.abc import Mapping

import jax

from akd_jax import losses
from akd_jax.config import RunConfig
from akd_jax.types import Batch, Method, Outputs, Stage


def supervised_loss(
    student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, temperature_step: jax.Array
) -> jax.Array:
    """Cross-entropy, or squared error in a regression, [B]; what a teacher says is ignored."""
    del teachers, temperature_step
    return losses.supervised(student.logits, batch.labels)


def build(config: RunConfig) -> Method:
    """One stage over all of the student's epochs."""
    stage = Stage("scratch", config.student.epochs, supervised_loss, config.student.optimizer)
    return Method("scratch", (stage,))


def build_teacher(config: RunConfig) -> Method:
    """How the teacher itself is trained."""
    settings = config.teacher
    stage = Stage("scratch", settings.epochs, supervised_loss, settings.optimizer)
    return Method("teacher", (stage,))
