"""Supervised training on the hard labels, without a teacher."""

from collections.abc import Mapping

import jax

from akd_jax import losses
from akd_jax.config import RunConfig
from akd_jax.types import Batch, Method, Outputs, Stage


def supervised_loss(
    student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, temperature_step: jax.Array
) -> jax.Array:
    """Returns the cross-entropy, or the squared error in a regression, [B]; ignores teachers."""
    del teachers, temperature_step
    return losses.supervised(student.logits, batch.labels)


def build(config: RunConfig) -> Method:
    """Returns one stage over all epochs of the student."""
    stage = Stage("scratch", config.student.epochs, supervised_loss, config.student.optimizer)
    return Method("scratch", (stage,))


def build_teacher(config: RunConfig) -> Method:
    """Returns the method that trains the teacher: one supervised stage."""
    settings = config.teacher
    stage = Stage("scratch", settings.epochs, supervised_loss, settings.optimizer)
    return Method("teacher", (stage,))
