"""The rows of a batch, for losses that combine them: preparation, all devices' rows, and means."""

from typing import TypeVar

import jax
import jax.numpy as jnp

from akd_jax.types import Array

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


def gather_rows(arrays: tuple[jax.Array, ...], axis_name: str | None) -> tuple[jax.Array, ...]:
    """Returns the rows of all devices; their gradients flow back to the devices they come from."""
    return arrays if axis_name is None else jax.lax.all_gather(arrays, axis_name, tiled=True)


def sum_devices(tree: _Tree, axis_name: str | None) -> _Tree:
    """Returns a tree of arrays, each summed over all devices; None stands for a single device."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted mean over the last axis; 0 if all weights are 0."""
    return divide((values * weights).sum(axis=-1), weights.sum(axis=-1))


def divide(total: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns total / weight; 0 where the weight is not positive."""
    positive = weight > 0
    return jnp.where(positive, total / jnp.where(positive, weight, 1), 0)
