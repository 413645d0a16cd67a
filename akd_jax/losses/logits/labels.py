"""Losses against hard labels: class indices, or the target numbers of a regression.

The conventions are those of `akd_jax.losses.logits.divergences`: one value per row, in float32.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import (
    exclude_masked,
    prepare,
    prepare_labels,
    share_option,
    without_empty_rows,
)
from akd_jax.types import Array


def cross_entropy(
    student_logits: Array,
    labels: Array,
    *,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the cross-entropy against integer labels: -log softmax(z_s)[label].

    Args:
      student_logits: z_s, [..., C].
      labels: class indices from 0 to C - 1, int [...]. Traced labels out of this range give
        NaN, since their values are unknown while the function is compiled.
      axis: the axis of the classes.
      where: the classes that count, bool, broadcastable to the shape of the logits; None for
        all classes. A label whose class does not count gives +inf. A row in which no class
        counts gives 0.
      ignore_index: a label, such as -100, that marks masked positions. Their loss and gradient
        are 0. Give these positions weight 0 too: otherwise they still count in a mean.

    Returns:
      float32 [...], in nats.

    Raises:
      ValueError: the labels are not integers, their shape is not that of the logits without
        the class axis, a label is out of range, or the mask does not fit the logits.
    """
    logits, where = prepare(student_logits, axis, where)
    rows = prepare_labels(labels, logits, student_logits.shape, ignore_index)
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(
        exclude_masked(logits, where), rows.indices
    )
    return rows.finish(without_empty_rows(loss, where))


def label_smoothing(
    student_logits: Array,
    labels: Array,
    *,
    smoothing: ArrayLike = 0.1,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the cross-entropy against smoothed labels.

        value = -sum_c ((1 - smoothing) [c = label] + smoothing / C) log softmax(z_s)_c

    C is the number of the classes that count. Logits of -inf do not count.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    https://arxiv.org/abs/1512.00567.

    Args:
      student_logits: z_s, [..., C].
      labels: class indices from 0 to C - 1, int [...].
      smoothing: the share of the label that is spread evenly over all classes, from 0 to 1, a
        scalar or one value per row.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.
      ignore_index: a label that marks rows without a loss, as for `cross_entropy`.

    Returns:
      float32 [...], in nats.

    Raises:
      ValueError: as `cross_entropy`, or the smoothing has another shape than the rows, or is out of
        range.
    """
    logits, where = prepare(student_logits, axis, where)
    rows = prepare_labels(labels, logits, student_logits.shape, ignore_index)
    smoothing = share_option("smoothing", smoothing, logits.shape[:-1])
    logits = exclude_masked(logits, where)
    counts = logits > -jnp.inf
    number = jnp.maximum(counts.sum(axis=-1, dtype=jnp.float32), 1)
    mean = jnp.where(counts, logits, 0).sum(axis=-1) / number
    picked = rows.pick(logits)
    # With smoothing 1 the label counts no more than the other classes: 0 * -inf would be NaN.
    picked = jnp.where((smoothing == 1) & (picked == -jnp.inf), 0, picked)
    target = (1 - smoothing) * picked + smoothing * mean
    return rows.finish(without_empty_rows(jax.nn.logsumexp(logits, axis=-1) - target, where))


def squared_error(student_logits: Array, labels: Array) -> jax.Array:
    """Returns the squared error of a regression: (z_s - label)^2.

    Args:
      student_logits: z_s, [..., 1].
      labels: the target numbers, floating [...].

    Returns:
      float32 [...], in squared units of the labels.

    Raises:
      ValueError: the shape of the logits is not [..., 1]. [B, 1] against [B] would broadcast
        to [B, B] without an error.
    """
    if student_logits.shape != (*labels.shape, 1):
        raise ValueError(
            f"student_logits: expected shape {(*labels.shape, 1)} for labels of shape"
            f" {labels.shape}, got {student_logits.shape}"
        )
    return jnp.square(student_logits[..., 0].astype(jnp.float32) - labels.astype(jnp.float32))


def supervised(
    student_logits: Array,
    labels: Array,
    *,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns `squared_error` for floating-point labels, and `cross_entropy` for class indices.

    Args:
      student_logits: z_s, [..., C].
      labels: class indices, int [...]; or the target numbers of a regression, floating [...].
      axis: as for `cross_entropy`.
      where: as for `cross_entropy`.
      ignore_index: as for `cross_entropy`.

    Returns:
      float32 [...].

    Raises:
      ValueError: as `cross_entropy` or `squared_error`, or a regression has another class axis
        than the last one, `where` or `ignore_index`.
    """
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        return cross_entropy(
            student_logits, labels, axis=axis, where=where, ignore_index=ignore_index
        )
    if axis not in (-1, student_logits.ndim - 1) or where is not None or ignore_index is not None:
        raise ValueError(
            "labels: expected class indices together with axis, where or ignore_index, got"
            f" {labels.dtype}; omit these arguments in a regression"
        )
    return squared_error(student_logits, labels)
