"""A matrix product and a convolution, the main operations of the slowest losses.

They are not losses. Their ratios show how much of a loss's ratio comes from XLA's operations.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional

from experiments.benchmarks.losses.case import LossCase, random_features

_CHANNELS = 128


def _matrix_product(student_rows: jax.Array, student_matrix: jax.Array) -> jax.Array:
    return jnp.square(student_rows @ student_matrix).mean(axis=-1)


def _torch_matrix_product(student_rows: torch.Tensor, student_matrix: torch.Tensor) -> torch.Tensor:
    return (student_rows @ student_matrix).square().mean()


def _matrices() -> dict[str, np.ndarray]:
    arrays = random_features((2048, _CHANNELS), (_CHANNELS, _CHANNELS))
    return dict(zip(("student_rows", "student_matrix"), arrays.values(), strict=True))


def _convolution(student_maps: jax.Array, student_kernel: jax.Array) -> jax.Array:
    maps = jax.lax.conv_general_dilated(
        student_maps,
        student_kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jnp.square(maps).mean(axis=(1, 2, 3))


def _torch_convolution(student_maps: torch.Tensor, student_kernel: torch.Tensor) -> torch.Tensor:
    maps, kernel = student_maps.permute(0, 3, 1, 2), student_kernel.permute(3, 2, 0, 1)
    return functional.conv2d(maps, kernel, padding=1).square().mean()


def _convolution_inputs() -> dict[str, np.ndarray]:
    arrays = random_features((64, 8, 8, _CHANNELS), (3, 3, _CHANNELS, _CHANNELS))
    return dict(zip(("student_maps", "student_kernel"), arrays.values(), strict=True))


CASES = [
    LossCase("(matrix product)", _matrix_product, _torch_matrix_product, _matrices),
    LossCase("(convolution)", _convolution, _torch_convolution, _convolution_inputs),
]
