"""Losses of relations: similarities, distances and angles between the examples of a batch.

Each function takes features [B, ...] of B examples, which are flattened per example, and returns
one value per example. Student and teacher may have different widths. For texts, give one vector
per example, such as 'pooled': tokens [B, L, D] would be flattened together with their padding.

A published loss is a mean over pairs or triples of the examples of a batch. A value is the part of
its first example, so that sum_i w_i v_i / sum_i w_i, which a training step computes, is the
published loss of the examples of weight > 0, if the weights w are 0 or 1. Other weights count
examples: 2 is the same as two copies. With `axis_name`, the batch is that of all devices: each
device compares its examples with all others. With accumulated gradients, the batch is one part.

The weight of a loss depends on its form. The weights below are those of RepDistiller's comparison,
next to a cross-entropy of weight 1 (Tian et al., "Contrastive Representation Distillation", ICLR
2020, https://arxiv.org/abs/1910.10699).
"""

import jax
import jax.numpy as jnp
import optax

from akd_jax.losses.features import unit_rows
from akd_jax.types import Array


def sp(
    student_features: Array,
    teacher_features: Array,
    *,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the squared difference of the similarity matrices of student and teacher (SP).

        G = F F^T with rows of norm 1        loss = ||G_s - G_t||^2 / B^2

    The mean of the values is this loss: v_i = mean over j of (G_s - G_t)_ij^2. It is the same for
    rotated features, and for features multiplied by a factor. The usual weight is 3000, with the
    last group of a convolutional network.

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
    https://arxiv.org/abs/1907.09682.

    Args:
      student_features: F_s, [B, ...].
      teacher_features: F_t, [B, ...].
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the features or the weights are not of the same examples.
    """
    student, teacher, weights = _prepare(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather((student, teacher, weights), axis_name)

    def similarities(rows: jax.Array, columns: jax.Array) -> jax.Array:
        products = jnp.einsum("id,jd->ij", rows, columns, precision=jax.lax.Precision.HIGHEST)
        return unit_rows(products, all_weights)

    difference = similarities(student, all_student) - similarities(teacher, all_teacher)
    return _weighted_mean(jnp.square(difference), all_weights)


def rkd_distance(
    student_features: Array,
    teacher_features: Array,
    *,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the difference of the distances between examples, relative to their mean (RKD).

        d_ij = ||f_i - f_j||, divided by the mean of the distances that are greater than 0
        loss = mean over i and j of huber(d_ij of the student - d_ij of the teacher)

    huber(x) is x^2 / 2 for |x| <= 1, and |x| - 1/2 otherwise. The mean includes i = j. The mean of
    the values is this loss: v_i is the mean over j. It is the same for features that are moved,
    rotated, or multiplied by a factor. Equal features have the distance 0 and get no gradient from
    it. The usual weight is 25, together with 50 for `rkd_angle`, with pooled features.

    For B examples of width D on N devices, each device may need memory for B^2 D / N numbers.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019,
    https://arxiv.org/abs/1904.05068.

    Args:
      student_features: f of the student, [B, ...].
      teacher_features: f of the teacher, [B, ...].
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the features or the weights are not of the same examples.
    """
    student, teacher, weights = _prepare(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather((student, teacher, weights), axis_name)

    def relative_distances(rows: jax.Array, columns: jax.Array) -> jax.Array:
        squares = jnp.square(rows[:, None] - columns).sum(axis=-1)
        positive = squares > 0
        # The derivative of the square root at 0 is infinite; times 0 it would be NaN.
        distances = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
        pairs = weights[:, None] * all_weights * positive.astype(jnp.float32)
        total, count = (pairs * distances).sum(), pairs.sum()
        if axis_name is not None:
            total, count = jax.lax.psum((total, count), axis_name)
        # Without two different examples all distances are 0.
        return distances / jnp.where(count > 0, total / jnp.where(count > 0, count, 1), 1)

    errors = optax.losses.huber_loss(
        relative_distances(student, all_student), relative_distances(teacher, all_teacher)
    )
    return _weighted_mean(errors, all_weights)


def rkd_angle(
    student_features: Array,
    teacher_features: Array,
    *,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the difference of the angles between triples of examples (RKD).

        e_ij = (f_j - f_i) / ||f_j - f_i||        a_ijk = e_ij . e_ik
        loss = mean over i, j and k of huber(a_ijk of the student - a_ijk of the teacher)

    a_ijk is the cosine of the angle at f_i. The function huber is that of `rkd_distance`. The mean
    includes triples in which examples are equal; e_ij is 0 for equal features. The mean of the
    values is this loss: v_i is the mean over j and k. It is the same for features that are moved,
    rotated, or multiplied by a factor. The usual weight is 50, together with 25 for
    `rkd_distance`, with pooled features.

    For B examples of width D on N devices, each device needs memory for B^2 (B + D) / N numbers.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019,
    https://arxiv.org/abs/1904.05068.

    Args:
      student_features: f of the student, [B, ...].
      teacher_features: f of the teacher, [B, ...].
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the features or the weights are not of the same examples.
    """
    student, teacher, weights = _prepare(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather((student, teacher, weights), axis_name)

    def cosines(rows: jax.Array, columns: jax.Array) -> jax.Array:
        directions = unit_rows(columns - rows[:, None])
        return jnp.einsum(
            "ijd,ikd->ijk", directions, directions, precision=jax.lax.Precision.HIGHEST
        )

    errors = optax.losses.huber_loss(cosines(student, all_student), cosines(teacher, all_teacher))
    return _weighted_mean(_weighted_mean(errors, all_weights), all_weights)


def _prepare(
    student_features: Array, teacher_features: Array, weights: Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns float32 features [B, D] and weights [B]; only the student's features get a gradient.

    Weights of None become 1.
    """
    rows = len(student_features)
    if len(teacher_features) != rows:
        raise ValueError(
            f"teacher_features: expected features of the student's {rows} examples, got"
            f" {len(teacher_features)}; give both the same batch"
        )
    weights = row_weights(weights, rows)
    student, teacher = (
        jnp.asarray(features, jnp.float32).reshape(rows, -1)
        for features in (student_features, teacher_features)
    )
    return student, jax.lax.stop_gradient(teacher), weights


def row_weights(weights: Array | None, rows: int) -> jax.Array:
    """Returns the weights of the rows, float32 [B], without a gradient; None becomes 1."""
    weights = jnp.ones(rows) if weights is None else jnp.asarray(weights, jnp.float32)
    if weights.shape != (rows,):
        raise ValueError(f"weights: expected shape ({rows},), got {weights.shape}")
    return jax.lax.stop_gradient(weights)


def gather(arrays: tuple[jax.Array, ...], axis_name: str | None) -> tuple[jax.Array, ...]:
    """Returns the rows of all devices; their gradients flow back to the devices they come from."""
    return arrays if axis_name is None else jax.lax.all_gather(arrays, axis_name, tiled=True)


def _weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted mean over the last axis; 0 if all weights are 0."""
    total = weights.sum()
    return (values * weights).sum(axis=-1) / jnp.where(total > 0, total, 1)
