"""Relational knowledge distillation: the distances and angles between the examples of a batch.

The conventions are those of `akd_jax.losses.relations.similarities`.
"""

import jax
import jax.numpy as jnp
import optax

from akd_jax.losses.rows import (
    divide,
    gather_rows,
    prepare_rows,
    sum_devices,
    unit_rows,
    weighted_mean,
)
from akd_jax.types import Array


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
    the values is this loss: v_i is the mean over j. It is invariant to translation, rotation and
    scaling of the features. Equal features have the distance 0 and get no gradient from
    it. The usual weight is 25, together with 50 for `rkd_angle`, with pooled features. The authors'
    code for metric learning, which has no cross-entropy, uses 1 and 2.

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
    student, teacher, weights = prepare_rows(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather_rows((student, teacher, weights), axis_name)

    def relative_distances(rows: jax.Array, columns: jax.Array) -> jax.Array:
        squares = _squared_distances(rows, columns)
        positive = squares > 0
        # The derivative of the square root at 0 is infinite; times 0 it would be NaN.
        distances = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
        pairs = weights[:, None] * all_weights * positive.astype(jnp.float32)
        total, count = sum_devices(((pairs * distances).sum(), pairs.sum()), axis_name)
        # Without two different examples all distances are 0.
        return distances / jnp.where(count > 0, divide(total, count), 1)

    errors = optax.losses.huber_loss(
        relative_distances(student, all_student), relative_distances(teacher, all_teacher)
    )
    return weighted_mean(errors, all_weights)


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
    values is this loss: v_i is the mean over j and k. It is invariant to translation, rotation and
    scaling of the features. The usual weight is 50, together with 25 for `rkd_distance`, with
    pooled features.

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
    student, teacher, weights = prepare_rows(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather_rows((student, teacher, weights), axis_name)

    def cosines(rows: jax.Array, columns: jax.Array) -> jax.Array:
        # The law of cosines takes fewer operations, and loses the digits of near duplicates.
        directions = unit_rows(columns - rows[:, None])
        return jnp.einsum(
            "ijd,ikd->ijk", directions, directions, precision=jax.lax.Precision.HIGHEST
        )

    errors = optax.losses.huber_loss(cosines(student, all_student), cosines(teacher, all_teacher))
    return weighted_mean(weighted_mean(errors, all_weights), all_weights)


@jax.custom_vjp
def _squared_distances(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns ||r_i - c_j||^2, [R, C]; exactly 0 for equal features.

    The sum of products r.r + c.c - 2 r.c would lose the digits of small distances. The gradient
    consists of products of matrices, which are faster than sums over [R, C, D].
    """
    return jnp.square(rows[:, None] - columns).sum(axis=-1)


def _forward(rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _squared_distances(rows, columns), (rows, columns)


def _backward(
    features: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    rows, columns = features

    def of_first(gradient: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        """Returns the sum over j of 2 g_ij (f_i - s_j)."""
        product = jnp.matmul(gradient, second, precision=jax.lax.Precision.HIGHEST)
        return 2 * (gradient.sum(axis=1, keepdims=True) * first - product)

    return of_first(gradient, rows, columns), of_first(gradient.T, columns, rows)


_squared_distances.defvjp(_forward, _backward)
