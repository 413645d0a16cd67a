"""Losses of many tokens and large vocabularies, evaluated in chunks of rows.

A causal language model predicts the token t + 1 at position t. The logits of student and teacher at
position t predict the same token, so a loss of both shifts neither of them. Labels are shifted
once, in the data: the label of position t is the token t + 1.

In float32, logits [N, V] of N tokens and V tokens in the vocabulary need 4 N V bytes, and a loss
and its gradient need that several times. `chunked` evaluates any loss of single rows in chunks of
rows, so that float32 arrays exist for one chunk at a time. `linear_chunked` also computes the
logits themselves in chunks, from the hidden states and the last layers of student and teacher:

    losses.bind(losses.chunked(losses.kl), temperature=2.0)
    losses.bind(losses.linear_chunked(losses.kl), layers="last_hidden_state", temperature=2.0)
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import checks
from akd_jax.losses.logits.chunks import map_chunks
from akd_jax.types import Array, Head

_STUDENT = "student_logits"  # Every loss of logits has this parameter; it defines the rows.
_Values = Callable[..., jax.Array]


def chunked(loss: _Values, *, chunks: int = 16) -> _Values:
    """Returns the same loss of logits, evaluated in chunks of rows to save memory.

    Values and gradients are those of the loss, up to rounding. Logits in bfloat16 are converted to
    float32 one chunk at a time, and their gradient is bfloat16. The backward pass evaluates each
    chunk again. The rows need not divide by the number of chunks, but if they do, nothing is
    copied. Values are checked as in a compiled program: labels out of range give NaN.

    Args:
      loss: a function of `student_logits` [..., C] and possibly `teacher_logits`, `labels` and
        others, which returns one value per row [...] that depends on this row only. Its array
        arguments are scalars, or have one entry per row. `where` broadcasts to the logits as usual.
        Give other arrays, such as one number per class, by `functools.partial`.
      chunks: number of chunks, at least 1. Few rows give fewer chunks.

    Returns:
      A function with the parameters of `loss`.

    Raises:
      ValueError: the loss has no parameter `student_logits` or combines rows, or `chunks` is out of
        range. The returned function raises it if an array does not have one entry per row, or the
        classes are not on the last axis.
    """
    signature = _check_loss("chunked", loss, chunks)

    @functools.wraps(loss)
    def evaluate(*args: Any, **kwargs: Any) -> jax.Array:
        arguments = signature.bind(*args, **kwargs).arguments
        rows = jnp.shape(arguments[_STUDENT])[:-1]
        return _map_chunks(loss, arguments, rows, chunks)

    return evaluate


def linear_chunked(loss: _Values, *, chunks: int = 16) -> _Values:
    """Returns a loss of hidden states and last layers that computes the logits in chunks of rows.

        logits = features @ kernel + bias

    Values, and gradients of the student's features, kernel and bias, are those of `loss` with these
    logits, up to rounding. The logits are float32 and exist for one chunk at a time, also in the
    backward pass, which computes them again. The gradient of the kernel is summed in float32.

    In a composed loss, `layers` must name the features that the last layer reads, 'pooled' by
    default. XLA does not compute the logits of a model that nothing else reads; in a training step,
    the metric 'accuracy' reads the student's logits if there is a label for every row.

        losses.bind(losses.linear_chunked(losses.kl), layers="last_hidden_state", temperature=2.0)

    Args:
      loss: as for `chunked`.
      chunks: number of chunks, at least 1. Few rows give fewer chunks.

    Returns:
      A function with the parameters of `loss`, in which `student_features` [..., D] and
      `student_head`, a `Head`, replace `student_logits`; `teacher_features` [..., D'] and
      `teacher_head` replace `teacher_logits`, if the loss reads them.

    Raises:
      ValueError: as `chunked`. The returned function also raises it if a head is missing or does
        not fit the features, or if student and teacher have different numbers of classes.
    """
    signature = _check_loss("linear_chunked", loss, chunks)
    parameters: list[inspect.Parameter] = []
    sides: list[str] = []
    for parameter in signature.parameters.values():
        side = parameter.name.removesuffix("_logits")
        if parameter.name in (_STUDENT, "teacher_logits"):
            sides.append(side)
            parameters += [parameter.replace(name=f"{side}_{x}") for x in ("features", "head")]
        else:
            parameters.append(parameter)
    signature = signature.replace(parameters=parameters)

    @functools.wraps(loss)
    def evaluate(*args: Any, **kwargs: Any) -> jax.Array:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        heads = {
            side: _check_head(side, arguments.pop(f"{side}_head"), arguments[f"{side}_features"])
            for side in sides
        }
        classes = {side: head.bias.shape[0] for side, head in heads.items()}
        if len(set(classes.values())) > 1:
            raise ValueError(
                f"teacher_head: expected the student's {classes['student']} classes, got"
                f" {classes['teacher']}; cut the larger head to the classes that both have"
            )

        def of_chunk(**chunk: Any) -> jax.Array:
            logits = {}
            for side in sides:
                features, head = chunk.pop(f"{side}_features"), chunk.pop(f"{side}_head")
                logits[f"{side}_logits"] = features.astype(jnp.float32) @ head.kernel + head.bias
            return loss(**logits, **chunk)

        rows = jnp.shape(arguments["student_features"])[:-1]
        named = {f"{side}_head": head for side, head in heads.items()}
        return _map_chunks(of_chunk, arguments, rows, chunks, named)

    evaluate.__signature__ = signature  # type: ignore[attr-defined]
    return evaluate


def _check_loss(wrapper: str, loss: _Values, chunks: int) -> inspect.Signature:
    """Returns the signature of a loss that may be evaluated in chunks of rows."""
    checks.check_values("chunks", chunks, "at least 1", lambda count: count >= 1)
    signature = inspect.signature(loss)
    name = getattr(loss, "__name__", type(loss).__name__)
    if _STUDENT not in signature.parameters:
        raise ValueError(
            f"{wrapper}: expected a loss of student_logits, got {name} of"
            f" {', '.join(signature.parameters)}; give a loss of logits"
        )
    if "axis_name" in signature.parameters:
        raise ValueError(
            f"{wrapper}: expected a loss of single rows, got {name}, which combines the rows of a"
            " batch; use it without chunks"
        )
    return signature


def _check_head(side: str, head: Head | None, features: Array) -> Head:
    """Returns a float32 head that fits the features; the teacher's gets no gradient."""
    if head is None:
        raise ValueError(
            f"{side}_head: expected the last layer of a model, got None; use a model in the step"
            " whose outputs have a head"
        )
    width, kernel, bias = jnp.shape(features)[-1], jnp.shape(head.kernel), jnp.shape(head.bias)
    if len(kernel) != 2 or kernel[0] != width or bias != kernel[1:]:
        raise ValueError(
            f"{side}_head: expected a kernel [{width}, C] and a bias [C] for features of width"
            f" {width}, got shapes {kernel} and {bias}; choose the features that this layer reads"
        )
    # Outside of the chunks, so that their gradients are added in float32.
    converted = Head(jnp.asarray(head.kernel, jnp.float32), jnp.asarray(head.bias, jnp.float32))
    return jax.lax.stop_gradient(converted) if side == "teacher" else converted


def _map_chunks(
    function: _Values,
    arguments: Mapping[str, Any],
    rows: tuple[int, ...],
    chunks: int,
    heads: Mapping[str, Head] | None = None,
) -> jax.Array:
    """Returns the values [...] of a function of rows, which is called for one chunk at a time.

    Args:
      function: takes the arguments by name, of the rows of a chunk.
      arguments: options and scalars, which all chunks share; arrays, or trees of arrays, whose
        leading axes are those of the rows; and a mask `where`.
      rows: the shape of the rows.
      chunks: the largest number of chunks.
      heads: further arguments that all chunks share.
    """
    count = math.prod(rows)
    size = max(-(-count // chunks), 1)
    padding = -count % size

    def cut(name: str, array: Array) -> jax.Array:
        shape = jnp.shape(array)
        if shape[: len(rows)] != rows:
            raise ValueError(
                f"{name}: expected a scalar, or an array with an entry for each of the rows {rows},"
                f" got shape {shape}; give other arrays by functools.partial"
            )
        flat = jnp.reshape(array, (count, *shape[len(rows) :]))
        if padding:
            # Copies of the last row, whose gradient is finite if that of the row is.
            flat = jnp.pad(flat, [(0, padding)] + [(0, 0)] * (flat.ndim - 1), mode="edge")
        return flat.reshape(-1, size, *flat.shape[1:])

    shared: dict[str, Any] = dict(heads or {})
    per_row: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "axis":
            if value not in (-1, len(rows)):
                raise ValueError(f"axis: expected the classes on the last axis, -1, got {value}")
            shared[name] = -1
        elif name == "where" and value is not None:
            mask = jnp.asarray(value)
            if math.prod(mask.shape[:-1]) == 1:
                shared[name] = mask.reshape(mask.shape[-1:])
            else:
                mask = checks.broadcast_mask(name, mask, (*rows, mask.shape[-1]))
                per_row[name] = cut(name, mask)
        elif value is None or (jax.tree_util.all_leaves([value]) and np.ndim(value) == 0):
            shared[name] = value
        else:
            per_row[name] = jax.tree.map(functools.partial(cut, name), value)

    def values_of_chunk(**chunk: Any) -> jax.Array:
        values = function(**chunk)
        if values.shape != (size,):
            raise ValueError(
                f"loss: expected one value per row, shape {(size,)} in a chunk, got {values.shape}"
            )
        return values

    return map_chunks(values_of_chunk, shared, per_row).reshape(-1)[:count].reshape(rows)
