"""Checks of array arguments. They cost nothing in a compiled program."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def check_values(
    name: str,
    value: ArrayLike,
    expected: str,
    is_valid: Callable[[np.ndarray], np.ndarray],
    remedy: str = "",
) -> None:
    """Raises ValueError if an element of a concrete value is not valid.

    A traced value is not checked, since its elements are unknown while `jax.jit`, `jax.vmap`
    or `jax.pmap` traces a function. Nor is an array that spans other processes.

    Args:
      name: the argument's name, for the message.
      value: the argument.
      expected: describes the valid elements, for the message.
      is_valid: maps an array to a boolean array of the same shape.
      remedy: what to do about the error, for the message.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return
    values = np.asarray(value)
    valid = is_valid(values)
    if not valid.all():
        end = f"; {remedy}" if remedy else ""
        raise ValueError(f"{name}: expected {expected}, got {values[~valid].flat[0]}{end}")


def scalar_or_per_row(name: str, value: ArrayLike, rows: tuple[int, ...]) -> jax.Array:
    """Returns a value in float32 if it is a scalar or has the shape of the rows.

    Other shapes raise ValueError, since broadcasting would give a wrong result without an
    error: [B, 1] against [B] gives [B, B], and [B] against [B, C] runs along C if B = C.
    """
    array = jnp.asarray(value, jnp.float32)
    if array.shape not in ((), rows):
        raise ValueError(f"{name}: expected a scalar or shape {rows}, got shape {array.shape}")
    return array


def broadcast_mask(name: str, mask: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """Returns a boolean mask of the given shape; raises ValueError if the mask does not fit."""
    array = jnp.asarray(mask)
    if array.dtype != bool:
        raise ValueError(f"{name}: expected a boolean mask, got {array.dtype}")
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name}: expected a shape that broadcasts to {shape}, got {array.shape}"
        ) from None
