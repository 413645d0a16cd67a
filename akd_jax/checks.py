"""Checks of array values that cost nothing in a compiled program."""

import jax
import numpy as np
from jax.typing import ArrayLike


def concrete(value: ArrayLike) -> np.ndarray | None:
    """Returns the value as a NumPy array, or None if it is not known here.

    The value of a traced array is unknown while `jax.jit`, `jax.vmap` or `jax.pmap` traces a
    function. The value of an array that spans other processes is unknown to a single process.
    """
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None
    return np.asarray(value)
