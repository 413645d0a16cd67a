"""Conversion of functions to ONNX by jax2onnx, and what onnxruntime computes with the result."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from akd_jax.host.errors import InputError, require


class UnsupportedError(Exception):
    """jax2onnx does not convert an operation of a function."""


def check_packages() -> None:
    """Raises InputError unless jax2onnx and onnxruntime are installed."""
    require("onnxruntime", "export")
    try:
        require("jax2onnx", "export")
    except InputError:
        raise InputError(
            "--format: expected the Python package jax2onnx, got none; install it with: pip install"
            " --no-deps jax2onnx"
        ) from None


def convert(function: Callable[..., jax.Array], arrays: Sequence[np.ndarray]) -> bytes:
    """Returns a function as the content of an ONNX file, for any number of rows.

    Args:
      function: maps arrays [B, ...] to an array [B, ...].
      arrays: arguments of the function; only their types and all sizes but the first one matter.

    Raises:
      UnsupportedError: jax2onnx does not convert the function.
    """
    for name in ("jax2onnx", "onnx_ir"):  # They warn of packages that nothing here needs.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    to_onnx = require("jax2onnx", "export").to_onnx
    (rows,) = jax_export.symbolic_shape("B")
    arguments = [jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for x in arrays]
    try:
        return to_onnx(function, arguments, model_name="akd_jax").SerializeToString()
    except Exception as error:  # It raises what the operation happens to raise.
        lines = str(error).splitlines() or [type(error).__name__]
        raise UnsupportedError(f"jax2onnx fails with: {lines[0]}") from error


def largest_difference(
    content: bytes, function: Callable[..., jax.Array], arrays: Sequence[np.ndarray]
) -> float:
    """Returns the largest absolute difference between onnxruntime's results and the function's.

    Args:
      content: the function as the content of an ONNX file.
      function: the function.
      arrays: its arguments.

    Raises:
      UnsupportedError: onnxruntime does not run the file.
    """
    onnxruntime = require("onnxruntime", "export")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Only fatal errors.
    try:
        session = onnxruntime.InferenceSession(content, options)
        inputs: dict[str, Any] = {
            x.name: array for x, array in zip(session.get_inputs(), arrays, strict=True)
        }
        (results,) = session.run(None, inputs)
    except Exception as error:  # The classes of its errors are not public.
        raise UnsupportedError(f"onnxruntime fails with: {str(error).splitlines()[0]}") from error
    return float(np.abs(results - np.asarray(function(*arrays))).max())
