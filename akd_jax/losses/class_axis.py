"""Preparation of logits for the losses: the axis and the mask of the classes, and the softmax."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax import checks
from akd_jax.types import Array


def prepare(logits: Array, axis: int, where: Array | None) -> tuple[jax.Array, jax.Array | None]:
    """Returns float32 logits [..., C] with 0 in place of masked ones, and the mask [..., C]."""
    classes_last = jnp.moveaxis(jnp.asarray(logits, jnp.float32), axis, -1)
    if where is None:
        return classes_last, None
    where = jnp.moveaxis(checks.broadcast_mask("where", where, logits.shape), axis, -1)
    return jnp.where(where, classes_last, 0), where


def exclude_masked(logits: jax.Array, where: jax.Array | None) -> jax.Array:
    """Sets masked logits to -inf; to 0 in rows in which no class counts, to avoid NaN."""
    if where is None:
        return logits
    return jnp.where(where, logits, jnp.where(where.any(axis=-1, keepdims=True), -jnp.inf, 0))


def prepare_pair(
    student_logits: Array, teacher_logits: Array, axis: int, where: Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Prepares the logits of student and teacher; stops the gradient of the teacher's."""
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"teacher_logits: expected the student's shape {student_logits.shape}, got"
            f" {teacher_logits.shape}"
        )
    student, mask = prepare(student_logits, axis, where)
    teacher, _ = prepare(teacher_logits, axis, where)
    return student, jax.lax.stop_gradient(teacher), mask


def log_softmax(logits: jax.Array, temperature: ArrayLike, where: jax.Array | None) -> jax.Array:
    """Returns log softmax(logits / T); it is -inf for masked classes and for logits of -inf."""
    return jax.nn.log_softmax(exclude_masked(divide(logits, temperature), where))


def divide(logits: jax.Array, temperature: ArrayLike) -> jax.Array:
    """Returns logits / T; logits of -inf give the derivative with respect to T no NaN."""
    excluded = logits == -jnp.inf
    # An infinite quotient must not depend on T: its derivative with respect to T would be NaN.
    infinite = logits / jax.lax.stop_gradient(temperature)
    return jnp.where(excluded, infinite, jnp.where(excluded, 0, logits) / temperature)
