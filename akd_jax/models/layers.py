"""Layers shared by the networks."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.types import Head


def conv(channels: int, dtype: Any, *, size: int = 3, stride: int = 1) -> nn.Conv:
    """Returns a convolution without bias, padded by size // 2 on every side as in PyTorch.

    Flax's 'SAME' would pad a strided convolution only on the right and at the bottom. The kernel
    is initialised from a normal distribution with variance 2 / (size * size * channels).
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
    """Returns a batch norm with PyTorch's momentum and epsilon.

    The statistics are float32 and, in training, means over the devices of `axis_name`.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name if train else None,
    )


# The output layer. Logits are float32 even if the network computes in another dtype.
classifier = functools.partial(nn.Dense, dtype=jnp.float32)


def classify(layer: nn.Dense, pooled: jax.Array) -> tuple[jax.Array, Head]:
    """Returns the logits of a `classifier`, and its parameters."""
    logits = layer(pooled)
    parameters = layer.variables["params"]
    return logits, Head(parameters["kernel"], parameters["bias"])
