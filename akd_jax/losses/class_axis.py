"""Preparation of logits for the losses: the axis of the classes, and the mask of the classes."""

import jax
import jax.numpy as jnp

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
