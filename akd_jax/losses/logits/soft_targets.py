"""Soft cross-entropies that also use the label, one value per row.

The conventions are those of `akd_jax.losses.logits.divergences`: p and q are the probabilities of
teacher and student at the temperature T. The label of a row is y.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import (
    exclude_masked,
    log_softmax,
    positive_option,
    prepare_labels,
    prepare_pair,
    soften,
    without_empty_rows,
)
from akd_jax.losses.logits.probabilities import soft_cross_entropy
from akd_jax.types import Array

_SMALLEST_CROSS_ENTROPY = 1e-7  # Of the teacher; the epsilon of the authors of WSLD.


def wsld(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    temperature: ArrayLike = 4.0,
    *,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the soft cross-entropy, with less weight where the student beats the teacher (WSLD).

        value = -(1 - exp(-CE_s / CE_t)) T^2 sum_c p_c log q_c

    CE_s and CE_t are the cross-entropies of student and teacher against the label. Their ratio gets
    no gradient. The usual weight is 2.25 on CIFAR-100, and 2.5 with temperature 2 on ImageNet, next
    to a cross-entropy of weight 1.

    Source: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance
    Tradeoff Perspective", ICLR 2021, https://arxiv.org/abs/2102.00650.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      labels: class indices y, int [...].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.
      ignore_index: a label that marks rows without a loss, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl` and `cross_entropy`.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    rows = prepare_labels(labels, student, student_logits.shape, ignore_index)
    temperature = positive_option("temperature", temperature, student.shape[:-1])
    hard_s, hard_t = (
        jax.nn.logsumexp(z, axis=-1) - rows.pick(z)
        for z in (exclude_masked(jax.lax.stop_gradient(z), where) for z in (student, teacher))
    )
    # An infinite cross-entropy of the teacher, even next to one of the student, gives weight 0.
    known = hard_t < jnp.inf
    ratio = jnp.where(known, hard_s, 0) / (jnp.where(known, hard_t, 0) + _SMALLEST_CROSS_ENTROPY)
    weight = -jnp.expm1(-jnp.maximum(ratio, 0))
    student, teacher = (
        exclude_masked(soften(z, temperature[..., None]), where) for z in (student, teacher)
    )
    values = weight * temperature**2 * soft_cross_entropy(jax.nn.softmax(teacher), student)
    return rows.finish(without_empty_rows(values, where))


def ofa(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    exponent: ArrayLike = 1.0,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the soft cross-entropy with an enhanced target for the label (OFA-KD).

        value = -sum_c ((p_c + [c = y])^exponent - [c = y]) log q_c      at T = 1

    With exponent 1 it is the soft cross-entropy of teacher and student. A larger exponent raises
    the target of the label, (1 + p_y)^exponent - 1, and lowers the others. OFA-KD adds this loss
    for the final logits and for the logits of a classifier on each stage of the student, each with
    weight 1, next to a cross-entropy of weight 1; this function is the loss of one pair of logits.
    The published exponents are 1 on CIFAR-100 and 1 to 1.5 on ImageNet.

    Source: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in
    Knowledge Distillation", NeurIPS 2023, https://arxiv.org/abs/2310.19444.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      labels: class indices y, int [...].
      exponent: the exponent of the targets, greater than 0, a scalar or one value per row.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.
      ignore_index: a label that marks rows without a loss, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl` and `cross_entropy`, or the exponent has another shape than the rows or is
        not positive.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    rows = prepare_labels(labels, student, student_logits.shape, ignore_index)
    exponent = positive_option("exponent", exponent, student.shape[:-1])[..., None]
    log_p = log_softmax(teacher, 1, where)
    possible = log_p > -jnp.inf
    others = jnp.where(possible, jnp.exp(exponent * jnp.where(possible, log_p, 0)), 0)
    of_label = jnp.expm1(exponent * jnp.log1p(jnp.exp(rows.pick(log_p)[..., None])))
    targets = jnp.where(rows.is_label(student.shape[-1]), of_label, others)
    values = soft_cross_entropy(targets, exclude_masked(student, where))
    return rows.finish(without_empty_rows(values, where))
