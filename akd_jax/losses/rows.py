"""The rows of a batch: preparation, all devices' rows, norms and means."""

from typing import TypeVar

import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.types import Array

_SMALLEST_NORM = 1e-12  # The epsilon of PyTorch's `normalize`.

_Tree = TypeVar("_Tree")


def prepare_rows(
    student_features: Array, teacher_features: Array, weights: Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns float32 features [B, D] and weights [B]; only the student's features get a gradient.

    Weights of None become 1.

    Raises:
      ValueError: the features or the weights are not of the same examples.
    """
    rows = len(student_features)
    if len(teacher_features) != rows:
        raise ValueError(
            f"teacher_features: expected features of the student's {rows} examples, got"
            f" {len(teacher_features)}; give both the same batch"
        )
    student, teacher = flatten(student_features), flatten(teacher_features)
    return student, jax.lax.stop_gradient(teacher), row_weights(weights, rows)


def row_weights(weights: Array | None, rows: int) -> jax.Array:
    """Returns the weights of the rows, float32 [B], without a gradient; None becomes 1.

    Raises:
      ValueError: there is not one weight for each row.
    """
    weights = jnp.ones(rows) if weights is None else jnp.asarray(weights, jnp.float32)
    if weights.shape != (rows,):
        raise ValueError(f"weights: expected shape ({rows},), got {weights.shape}")
    return jax.lax.stop_gradient(weights)


def flatten(features: Array) -> jax.Array:
    """Returns features [B, ...] as float32 [B, D]."""
    return jnp.asarray(features, jnp.float32).reshape(len(features), -1)


def unit_rows(rows: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns rows divided by their norms; rows of norm 0 stay 0 and get no gradient.

    Args:
      rows: float32 [..., n].
      weights: the weight of each of the n squares in the norm, [n]; None for 1.
    """
    squares = jnp.square(rows) if weights is None else weights * jnp.square(rows)
    square = squares.sum(axis=-1, keepdims=True)
    positive = square > _SMALLEST_NORM**2
    # The derivative of the square root at 0 is infinite; times 0 it would be NaN.
    return jnp.where(positive, rows / jnp.sqrt(jnp.where(positive, square, 1)), 0)


def gather_rows(arrays: tuple[jax.Array, ...], axis_name: str | None) -> tuple[jax.Array, ...]:
    """Returns the rows of all devices; their gradients flow back to the devices they come from."""
    return arrays if axis_name is None else jax.lax.all_gather(arrays, axis_name, tiled=True)


def sum_devices(tree: _Tree, axis_name: str | None) -> _Tree:
    """Returns a tree of arrays, each summed over all devices; None stands for a single device."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def masked_mean(values: Array, mask: Array, *, axis_name: str | None = None) -> jax.Array:
    """Returns the mean of the values over the tokens that count; 0 if no token counts.

        mean = sum_i m_i v_i / sum_i m_i

    The values of other tokens may be infinite or NaN. The training step of this package takes such
    a mean over all devices and accumulated parts; this function is for other training loops.

    Args:
      values: one value per token, [...], such as [B, L] for B texts of L tokens.
      mask: which tokens count, bool [...].
      axis_name: the axis of the devices whose tokens belong to the batch; None for one device. Both
        sums run over all devices, and the mean is the same on each. The mean over the devices
        (`jax.lax.pmean`) of their gradients is the gradient of the batch.

    Returns:
      float32 [].

    Raises:
      ValueError: the mask is not boolean, or has another shape than the values.
    """
    values, shape = jnp.asarray(values, jnp.float32), jnp.shape(mask)
    if shape != values.shape:
        raise ValueError(f"mask: expected the values' shape {values.shape}, got {shape}")
    mask = checks.broadcast_mask("mask", mask, values.shape)
    sums = jnp.where(mask, values, 0).sum(), mask.sum(dtype=jnp.float32)
    total, count = sum_devices(sums, axis_name)
    return total / jnp.maximum(count, 1)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted mean over the last axis; 0 if all weights are 0."""
    return divide((values * weights).sum(axis=-1), weights.sum(axis=-1))


def divide(total: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns total / weight; 0 where the weight is not positive."""
    positive = weight > 0
    return jnp.where(positive, total / jnp.where(positive, weight, 1), 0)
