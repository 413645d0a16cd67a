"""Residual networks for small images (He et al., 2016, https://arxiv.org/abs/1512.03385).

The wider networks, such as resnet8x4 and resnet32x4, are those of the CIFAR-100 tables of Tian et
al., ICLR 2020, https://arxiv.org/abs/1910.10699.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import batch_norm, classifier, conv, pool_and_classify
from akd_jax.types import Outputs

DEPTHS = (8, 14, 20, 26, 32, 44, 56, 110)
_WIDTHS = (16, 16, 32, 64)  # The first convolution, then the groups.
_WIDTHS_X4 = (32, 64, 128, 256)


class ResNet(nn.Module):
    """The CIFAR ResNet of depth 6n + 2: n basic blocks in each of three groups.

    It consists of a 3x3 convolution, three groups, a mean over all pixels and a dense layer. The
    second and third group start with stride 2.

    Attributes:
      depth: 6n + 2.
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
      widths: channels of the first convolution and of each group.
    """

    depth: int
    num_classes: int
    dtype: Any = jnp.float32
    widths: Sequence[int] = _WIDTHS

    @property
    def blocks(self) -> int:
        """n, the number of blocks per group."""
        return (self.depth - 2) // 6

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are, with the widths 16, 16, 32 and 64, 'group_0' [B, H, W, 16], the output
        of the first convolution; 'group_1', 'group_2' and 'group_3', the outputs of the groups,
        [B, H, W, 16], [B, H/2, W/2, 32] and [B, H/4, W/4, 64]; and 'pooled' [B, 64], the mean of
        'group_3' over all pixels in float32. Those of the convolutions are taken after batch norm
        and ReLU. 'group_1_preactivation' to 'group_3_preactivation' are taken before the ReLU.

        Args:
          images: images of any height, width and number of channels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        stem, *widths = self.widths
        x = conv(stem, self.dtype)(images)
        x = nn.relu(batch_norm(self.dtype, train=train, axis_name=axis_name)(x))
        features = {"group_0": x}
        # nn.jit would change the random initial weights.
        block = BasicBlock if self.is_initializing() else _JitBasicBlock
        for group, width in enumerate(widths):
            for number in range(self.blocks):
                stride = 2 if group > 0 and number == 0 else 1
                name = f"BasicBlock_{group * self.blocks + number}"
                y = block(width, stride, self.dtype, name=name)(x, train=train, axis_name=axis_name)
                x = nn.relu(y)
            features |= {f"group_{group + 1}": x, f"group_{group + 1}_preactivation": y}
        return pool_and_classify(classifier(self.num_classes), x, features)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection.

    The connection is the identity, or a 1x1 convolution if the shape changes.
    """

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels in] to [B, H / stride, W / stride, channels], before the ReLU."""

        def normalise(y: jax.Array) -> jax.Array:
            return batch_norm(self.dtype, train=train, axis_name=axis_name)(y)

        y = nn.relu(normalise(conv(self.channels, self.dtype, stride=self.stride)(x)))
        y = normalise(conv(self.channels, self.dtype)(y))
        if self.stride != 1 or x.shape[-1] != self.channels:
            x = normalise(conv(self.channels, self.dtype, size=1, stride=self.stride)(x))
        return y + x


# Traces one block per shape instead of each of the 54 blocks of ResNet-110. This halves the time
# before the first step when the compiled program is in the compilation cache.
_JitBasicBlock = nn.jit(BasicBlock, static_argnames=("train", "axis_name"))


def build(argument: str, num_classes: int, dtype: Any) -> ResNet:
    """Builds a ResNet.

    Args:
      argument: a depth in DEPTHS, such as '8'; or a depth followed by x4, such as '8x4', for the
        widths 32, 64, 128 and 256.
      num_classes: C.
      dtype: dtype of the convolutions.

    Raises:
      InputError: the depth is not in DEPTHS.
    """
    depth = argument.removesuffix("x4")
    if depth not in map(str, DEPTHS):
        raise InputError(
            f"resnet:{argument}: expected a depth among {', '.join(map(str, DEPTHS))}, got"
            f" {depth!r}; write resnet:DEPTH or resnet:DEPTHx4"
        )
    widths = _WIDTHS if depth == argument else _WIDTHS_X4
    return ResNet(depth=int(depth), num_classes=num_classes, dtype=dtype, widths=widths)
