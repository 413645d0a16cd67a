"""Losses that separate the class of the label from the other classes, one value per row.

The conventions are those of `akd_jax.losses.logits.divergences`: p and q are the probabilities of
teacher and student at the temperature T. The label of a row is y.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import (
    RowLabels,
    exclude_masked,
    factor_option,
    positive_option,
    prepare_labels,
    prepare_pair,
    soften,
    without_empty_rows,
)
from akd_jax.losses.logits.probabilities import kl_divergence, soft_cross_entropy
from akd_jax.types import Array


def dkd(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    temperature: ArrayLike = 4.0,
    *,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 8.0,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the decoupled KD loss T^2 (alpha TCKD + beta NCKD) (DKD).

        TCKD = KL((p_y, 1 - p_y) || (q_y, 1 - q_y))
        NCKD = KL(p over the classes other than y || q over the same classes), each of sum 1

    With alpha 1 and beta 1 - p_y, the teacher's probability of the other classes, it is `kl`.
    The usual weight is 1, next to a cross-entropy of weight 1, and rises linearly from 0 during the
    first 20 epochs. The published beta is 8 for a ResNet-32x4 that teaches a ResNet-8x4, 2 for the
    ResNets of CIFAR, 6 for the wide ResNets and VGGs, and 0.5 with temperature 1 on ImageNet.

    The authors' code takes the logarithm of a sum of probabilities, whose value and gradient are
    not finite for a student that is far off; here it is a difference of logits.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022,
    https://arxiv.org/abs/2203.08679.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      labels: class indices y, int [...].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      alpha: the factor of the part of the label's class, TCKD, a scalar or one value per row.
      beta: the factor of the part of the other classes, NCKD, a scalar or one value per row.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.
      ignore_index: a label that marks rows without a loss, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative. It is 0 if only one class counts.

    Raises:
      ValueError: as `kl` and `cross_entropy`, or alpha or beta has another shape than the rows or
        is negative.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    rows = prepare_labels(labels, student, student_logits.shape, ignore_index)
    temperature = positive_option("temperature", temperature, student.shape[:-1])
    alpha = factor_option("alpha", alpha, student.shape[:-1])
    beta = factor_option("beta", beta, student.shape[:-1])
    odds_s, others_s, _ = _decouple(student, rows, temperature, where)
    odds_t, others_t, has_others = _decouple(teacher, rows, temperature, where)
    of_label = kl_divergence(_binary(odds_t), _binary(odds_s), None)
    of_others = jnp.where(has_others, kl_divergence(others_t, others_s, None), 0)
    values = temperature**2 * (alpha * of_label + beta * of_others)
    return rows.finish(without_empty_rows(values, where))


def nkd(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    temperature: ArrayLike = 1.0,
    *,
    gamma: ArrayLike = 1.5,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the normalised KD loss of the label and of the other classes (NKD).

        value = -p_y log q_y - gamma T^2 sum_{c != y} p'_c log q'_c

    p_y and q_y are probabilities at temperature 1; p' and q' are those of the classes other than y
    at temperature T, each of sum 1. Both parts are cross-entropies: for a perfect student the value
    is not 0. The usual weight is 1, next to a cross-entropy of weight 1. The published gamma and
    temperature are 1.5 and 1 on ImageNet, 3.5 and 3 on CIFAR-100.

    Source: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified
    Approach with Normalized Loss and Customized Soft Labels", ICCV 2023,
    https://arxiv.org/abs/2303.13005.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      labels: class indices y, int [...].
      temperature: the softmax temperature T > 0 of the classes other than the label, a scalar or
        one value per row [...].
      gamma: the factor of the part of the other classes, a scalar or one value per row.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.
      ignore_index: a label that marks rows without a loss, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl` and `cross_entropy`, or gamma has another shape than the rows or is
        negative.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    rows = prepare_labels(labels, student, student_logits.shape, ignore_index)
    temperature = positive_option("temperature", temperature, student.shape[:-1])
    gamma = factor_option("gamma", gamma, student.shape[:-1])
    # At temperature 1 the compiler merges these calls with those below.
    odds_s, _, _ = _decouple(student, rows, jnp.ones(()), where)
    odds_t, _, _ = _decouple(teacher, rows, jnp.ones(()), where)
    label_or_not = jnp.arange(2) == 0
    p_y = jnp.where(label_or_not, jax.nn.sigmoid(odds_t)[..., None], 0)
    of_label = soft_cross_entropy(p_y, _binary(odds_s))
    _, others_s, _ = _decouple(student, rows, temperature, where)
    _, others_t, has_others = _decouple(teacher, rows, temperature, where)
    of_others = jnp.where(has_others, soft_cross_entropy(jax.nn.softmax(others_t), others_s), 0)
    values = of_label + gamma * temperature**2 * of_others
    return rows.finish(without_empty_rows(values, where))


def _decouple(
    logits: jax.Array, labels: RowLabels, temperature: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Separates the label from the other classes.

    Args:
      logits: z, [..., C], without masked classes set to -inf.
      labels: the labels y.
      temperature: T, a scalar or [...].
      where: the classes that count, or None.

    Returns:
      log(q_y / (1 - q_y)) [...], which is +inf without another class; z / T with -inf for the label
      [..., C]; and whether there are other classes [...].
    """
    scaled = exclude_masked(soften(logits, temperature[..., None]), where)
    others = ~labels.is_label(logits.shape[-1]) & ~(scaled == -jnp.inf)
    has_others = others.any(axis=-1)
    rest = exclude_masked(scaled, others)
    odds = labels.pick(scaled) - jax.nn.logsumexp(rest, axis=-1)
    return jnp.where(has_others, odds, jnp.inf), rest, has_others


def _binary(odds: jax.Array) -> jax.Array:
    """Returns logits [..., 2] of the probabilities q_y and 1 - q_y from log(q_y / (1 - q_y))."""
    certain = odds == jnp.inf
    of_label = jnp.where(certain, 0, odds)
    return jnp.stack([of_label, jnp.where(certain, -jnp.inf, jnp.zeros_like(odds))], axis=-1)
