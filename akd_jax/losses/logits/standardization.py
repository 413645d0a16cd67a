"""Standardised logits: distillation that ignores the mean and the size of the logits of a row."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import prepare
from akd_jax.losses.logits.divergences import kl
from akd_jax.types import Array

_EPSILON = 1e-7  # Added to the standard deviation, as in the authors' code.


def standardize(logits: Array, *, axis: int = -1, where: Array | None = None) -> jax.Array:
    """Returns (z - mean(z)) / std(z), over the classes of each row.

    The standard deviation has the divisor C - 1, as in PyTorch, where C is the number of the
    classes that count; logits of -inf do not count and stay. Equal logits, and those of a single
    class, become 0 without a gradient. Otherwise the gradient also flows through the mean and the
    standard deviation.

    It comes before any loss of logits:

        losses.dkd(losses.standardize(student), losses.standardize(teacher), labels, 2.0)

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024,
    https://arxiv.org/abs/2403.01427.

    Args:
      logits: z, [..., C].
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 of the shape of the logits; 0 for masked classes.

    Raises:
      ValueError: the mask does not fit the logits.
    """
    values, where = prepare(logits, axis, where)
    counts = ~(values == -jnp.inf) if where is None else where & ~(values == -jnp.inf)
    number = jnp.maximum(counts.sum(axis=-1, keepdims=True, dtype=jnp.float32), 1)
    largest = jax.lax.stop_gradient(jnp.where(counts, values, -jnp.inf).max(-1, keepdims=True))
    # The deviations of equal values are exactly 0 if one of them is subtracted first.
    shifted = jnp.where(counts, jnp.where(counts, values, 0) - largest, 0)
    mean = shifted.sum(axis=-1, keepdims=True) / number
    deviations = jnp.where(counts, shifted - mean, 0)
    square = jnp.square(deviations).sum(axis=-1, keepdims=True)
    varies = square != 0  # Also if it is NaN, which stays.
    # The derivative of the square root at 0 is infinite; times 0 it would be NaN.
    std = jnp.sqrt(jnp.where(varies, square, 1) / jnp.maximum(number - 1, 1))
    scores = jnp.where(varies, deviations / (_EPSILON + std), 0)
    return jnp.moveaxis(jnp.where(values == -jnp.inf, -jnp.inf, scores), -1, axis)


def standardized_kl(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 2.0,
    *,
    scale: bool = True,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns `kl` of the standardised logits of student and teacher.

    The student learns the relations between the classes; the mean and the size of its logits are
    free. The usual weight is 9, next to a cross-entropy of weight 0.1. The published results use
    temperatures from 2 to 4 and weights from 6 to 18, chosen for each pair of networks.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024,
    https://arxiv.org/abs/2403.01427.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0 of the standardised logits, a scalar or one value
        per row [...].
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl`.
    """
    return kl(
        standardize(student_logits, axis=axis, where=where),
        standardize(teacher_logits, axis=axis, where=where),
        temperature,
        scale=scale,
        axis=axis,
        where=where,
    )
