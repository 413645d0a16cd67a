"""What the convolutional networks share."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp


def conv(channels: int, dtype: Any, *, size: int = 3, stride: int = 1) -> nn.Conv:
    """A convolution without bias, padded by size // 2 on every side, as PyTorch's are.

    (Flax's 'SAME' pads a strided convolution on the right and below alone.) The kernel is
    normal with variance 2 / (size * size * channels).
    """
    return nn.Conv(
        channels,
        (size, size),
        strides=(stride, stride),
        padding=size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    )


def batch_norm(dtype: Any, *, train: bool, axis_name: str | None) -> nn.BatchNorm:
    """Batch norm with PyTorch's momentum and epsilon; statistics in float32, over all devices."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name if train else None,
    )


# The logits, in float32 whatever the network computes in.
classifier = functools.partial(nn.Dense, dtype=jnp.float32)
