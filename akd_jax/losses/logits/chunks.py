"""Evaluation of a function of rows for one chunk at a time, with little memory for the gradient."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.types import Array

_Arguments = Mapping[str, Any]


def map_chunks(
    function: Callable[..., jax.Array], shared: _Arguments, per_row: _Arguments
) -> jax.Array:
    """Returns the values of a function of the rows of a chunk, for all chunks, [chunks, size].

    The backward pass evaluates each chunk again. Nothing is kept for it but the arguments: the
    reverse mode of `jax.lax.map` would copy all of them. Floating-point arrays get a gradient,
    except those of the teacher, whose names start with 'teacher'.

    Args:
      function: takes the arguments by name, of the rows of one chunk; returns values [size].
      shared: the arguments that all chunks share: options, arrays or trees of arrays.
      per_row: the other arguments, arrays or trees of arrays [chunks, size, ...].
    """
    options = {name: x for name, x in shared.items() if not _holds_arrays(x)}
    arrays = {name: x for name, x in shared.items() if name not in options}
    learned = {name for name, x in (arrays | dict(per_row)).items() if _is_learned(name, x)}

    def split(arguments: _Arguments) -> tuple[dict[str, Any], dict[str, Any]]:
        first = {name: x for name, x in arguments.items() if name in learned}
        return first, {name: x for name, x in arguments.items() if name not in learned}

    (learned_shared, fixed_shared), (learned_rows, fixed_rows) = split(arrays), split(per_row)
    fixed = fixed_shared, fixed_rows

    def of_chunk(of_all: Any, of_rows: Any, fixed_shared: Any, fixed_rows: Any) -> jax.Array:
        return function(**options, **of_all, **of_rows, **fixed_shared, **fixed_rows)

    @jax.custom_vjp
    def values_of(learned: Any, fixed: Any) -> jax.Array:
        (learned_shared, learned_rows), (fixed_shared, fixed_rows) = learned, fixed

        def values(chunk: Any) -> jax.Array:
            of_rows, of_fixed = _from_bits(chunk, (learned_rows, fixed_rows))
            return of_chunk(learned_shared, of_rows, fixed_shared, of_fixed)

        return jax.lax.map(values, _to_bits((learned_rows, fixed_rows)))

    def forward(learned: Any, fixed: Any) -> tuple[jax.Array, Any]:
        return values_of(learned, fixed), (learned, fixed)

    def backward(arguments: Any, cotangents: jax.Array) -> tuple[Any, None]:
        (learned_shared, learned_rows), (fixed_shared, fixed_rows) = arguments

        def add(sums: Any, part: Any) -> tuple[Any, Any]:
            chunk, cotangent = part
            of_rows, of_fixed = _from_bits(chunk, (learned_rows, fixed_rows))
            _, pull_back = jax.vjp(
                lambda of_all, of_rows: of_chunk(of_all, of_rows, fixed_shared, of_fixed),
                learned_shared,
                of_rows,
            )
            of_shared, of_rows = pull_back(cotangent)
            return jax.tree.map(jnp.add, sums, of_shared), _to_bits(of_rows)

        zeros = jax.tree.map(jnp.zeros_like, learned_shared)
        chunks = _to_bits((learned_rows, fixed_rows))
        of_shared, of_rows = jax.lax.scan(add, zeros, (chunks, cotangents))
        return (of_shared, _from_bits(of_rows, learned_rows)), None

    values_of.defvjp(forward, backward)
    return values_of((learned_shared, learned_rows), fixed)


def _to_bits(tree: Any) -> Any:
    """Returns arrays of 16-bit floats as integers with the same bits.

    XLA's CPU backend slices 16-bit floats in float32. It would convert the whole array.
    """

    def bits(array: Array) -> Array:
        is_half = array.dtype in (jnp.bfloat16, jnp.float16)
        return jax.lax.bitcast_convert_type(array, jnp.uint16) if is_half else array

    return jax.tree.map(bits, tree)


def _from_bits(tree: Any, like: Any) -> Any:
    """Reverses `_to_bits` for arrays of the types of `like`."""

    def floats(array: jax.Array, like: Array) -> jax.Array:
        same = array.dtype == like.dtype
        return array if same else jax.lax.bitcast_convert_type(array, like.dtype)

    return jax.tree.map(floats, tree, like)


def _holds_arrays(value: Any) -> bool:
    """Returns whether a value is an array or a tree of arrays, and not an option."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(x, jax.Array | np.ndarray) for x in leaves)


def _is_learned(name: str, value: Any) -> bool:
    """Returns whether an argument gets a gradient."""
    types = (jnp.result_type(x) for x in jax.tree.leaves(value))
    return not name.startswith("teacher") and all(jnp.issubdtype(x, jnp.floating) for x in types)
