"""Layers shared by the networks."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.types import Head, Outputs

FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# The default of PyTorch's convolutions and dense layers: uniform within 1 / sqrt(fan_in).
TORCH_DEFAULT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(
    channels: int,
    dtype: Any,
    *,
    size: int = 3,
    stride: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: nn.initializers.Initializer = FAN_OUT,
) -> nn.Conv:
    """Returns a convolution, padded by size // 2 on every side as in PyTorch.

    Flax's 'SAME' would pad a strided convolution only on the right and at the bottom.

    Args:
      channels: number of output channels.
      dtype: dtype of the computation.
      size: height and width of the kernel.
      stride: distance of the output pixels.
      groups: number of groups of channels that are convolved separately.
      use_bias: whether a bias is added, which starts at 0.
      kernel_init: initialises the kernel; by default from a normal distribution with variance
        2 / (size * size * channels).
    """
    return nn.Conv(
        channels,
        (size, size),
        strides=(stride, stride),
        padding=size // 2,
        feature_group_count=groups,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init,
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


class MaskedBatchNorm(nn.Module):
    """A batch norm of padded sequences: its statistics are those of the real positions.

    In training, these are the real positions of all devices, whose numbers may differ between the
    devices. `nn.BatchNorm` would give every device the same weight. The variables, the momentum and
    the epsilon are those of `batch_norm`.

    Attributes:
      dtype: dtype of the result; statistics are float32.
      train: whether to use the statistics of the batch, and to update the running ones.
      axis_name: axis of devices over which the statistics are computed.
    """

    dtype: Any
    train: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, is_real: jax.Array) -> jax.Array:
        """Normalises sequences [B, T, ..., C] per channel; `is_real` [B, T] is False for padding.

        The values at padding are arbitrary.
        """
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        x = x.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if self.train:
            mean, var = self._statistics(x, is_real)
            if not self.is_initializing():
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * var
        normalised = (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias
        return normalised.astype(self.dtype)

    def _statistics(self, x: jax.Array, is_real: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and variance of each channel over the real positions, [C]."""
        real = jnp.where(jnp.expand_dims(is_real, range(2, x.ndim)), x, 0)
        axes = tuple(range(x.ndim - 1))
        count = is_real.sum(dtype=jnp.float32) * math.prod(x.shape[2:-1])
        sums = real.sum(axes), jnp.square(real).sum(axes), count
        if self.axis_name is not None and not self.is_initializing():
            sums = jax.lax.psum(sums, self.axis_name)
        total, squares, count = sums
        mean = total / jnp.maximum(count, 1)
        return mean, jnp.maximum(squares / jnp.maximum(count, 1) - jnp.square(mean), 0)


# The output layer. Logits are float32 even if the network computes in another dtype.
classifier = functools.partial(nn.Dense, dtype=jnp.float32)


def classify(layer: nn.Dense, pooled: jax.Array) -> tuple[jax.Array, Head]:
    """Returns the logits of a `classifier`, and its parameters."""
    logits = layer(pooled)
    parameters = layer.variables["params"]
    return logits, Head(parameters["kernel"], parameters["bias"])


def pool_and_classify(
    layer: nn.Dense, pixels: jax.Array, features: Mapping[str, jax.Array]
) -> Outputs:
    """Returns the outputs of a network that ends with a mean over all pixels and a dense layer.

    Args:
      layer: the `classifier`.
      pixels: the last hidden representation [B, H, W, D].
      features: the features of the network. The result also has 'pooled', the mean in float32.
    """
    pooled = pixels.mean(axis=(1, 2), dtype=jnp.float32)
    logits, head = classify(layer, pooled)
    return Outputs(logits, {**features, "pooled": pooled}, head=head)
