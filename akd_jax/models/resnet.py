"""Residual networks for small images (He et al., 2016, https://arxiv.org/abs/1512.03385)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.errors import InputError
from akd_jax.models.layers import batch_norm, classifier, conv
from akd_jax.types import Outputs

DEPTHS = (8, 14, 20, 26, 32, 44, 56, 110)
_WIDTHS = (16, 32, 64)


class ResNet(nn.Module):
    """The CIFAR ResNet of depth 6n + 2: n basic blocks in each of three groups.

    A 3x3 convolution to 16 channels; groups of 16, 32 and 64 channels, the last two of which
    begin with stride 2; a mean over all pixels; a dense layer.

    Attributes:
      depth: 6n + 2.
      num_classes: C.
      dtype: what convolutions compute in; parameters and statistics are float32.
    """

    depth: int
    num_classes: int
    dtype: Any = jnp.float32

    @property
    def blocks(self) -> int:
        """n, the blocks of a group."""
        return (self.depth - 2) // 6

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C].

        Args:
          images: of any height, width and number of channels.
          train: whether batch norm uses the batch's statistics and updates its running ones.
          axis_name: the devices' axis over which those statistics are taken.
        """
        x = conv(_WIDTHS[0], self.dtype)(images)
        x = nn.relu(batch_norm(self.dtype, train=train, axis_name=axis_name)(x))
        # Random weights would be others in a block that is traced once for all.
        block = BasicBlock if self.is_initializing() else _TracedOnce
        for group, width in enumerate(_WIDTHS):
            for number in range(self.blocks):
                stride = 2 if group > 0 and number == 0 else 1
                name = f"BasicBlock_{group * self.blocks + number}"
                x = block(width, stride, self.dtype, name=name)(x, train=train, axis_name=axis_name)
        x = x.mean(axis=(1, 2), dtype=jnp.float32)
        return Outputs(logits=classifier(self.num_classes)(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to the input or, where the shape changes, to a 1x1 one of it."""

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels in] to [B, H / stride, W / stride, channels]."""

        def normalised(y: jax.Array) -> jax.Array:
            return batch_norm(self.dtype, train=train, axis_name=axis_name)(y)

        y = nn.relu(normalised(conv(self.channels, self.dtype, stride=self.stride)(x)))
        y = normalised(conv(self.channels, self.dtype)(y))
        if self.stride != 1 or x.shape[-1] != self.channels:
            x = normalised(conv(self.channels, self.dtype, size=1, stride=self.stride)(x))
        return nn.relu(y + x)


# For all blocks of a shape, not for each of ResNet-110's 54: half the seconds before a first step
# whose compiled program is at hand.
_TracedOnce = nn.jit(BasicBlock, static_argnames=("train", "axis_name"))


def build(depth: str, num_classes: int, dtype: Any) -> ResNet:
    """The ResNet of a depth in DEPTHS, given as text.

    Raises:
      InputError: there is no such depth.
    """
    if depth not in map(str, DEPTHS):
        raise InputError(
            f"resnet:{depth}: expected a depth among {', '.join(map(str, DEPTHS))}, got {depth!r}"
        )
    return ResNet(depth=int(depth), num_classes=num_classes, dtype=dtype)
