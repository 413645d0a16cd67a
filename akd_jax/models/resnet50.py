"""ResNet-50 for small images (He et al., 2016, https://arxiv.org/abs/1512.03385).

It is a teacher of the CIFAR-100 tables of Tian et al., ICLR 2020,
https://arxiv.org/abs/1910.10699. The first convolution is 3x3 with stride 1, and no pool follows.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.models.layers import TORCH_DEFAULT, batch_norm, classifier, conv, pool_and_classify
from akd_jax.types import Outputs

_EXPANSION = 4


class ResNet50(nn.Module):
    """ResNet-50: four groups of bottleneck blocks.

    Attributes:
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
      widths: channels of the 3x3 convolutions of each group; its output has 4 times as many. The
        first convolution has as many channels as those of the first group.
      blocks: number of blocks of each group.
    """

    num_classes: int
    dtype: Any = jnp.float32
    widths: Sequence[int] = (64, 128, 256, 512)
    blocks: Sequence[int] = (3, 4, 6, 3)

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are 'group_0' [B, H, W, 64], the output of the first convolution; 'group_1'
        [B, H, W, 256], 'group_2' [B, H/2, W/2, 512], 'group_3' [B, H/4, W/4, 1024] and 'group_4'
        [B, H/8, W/8, 2048], the outputs of the groups; and 'pooled' [B, 2048], the mean of
        'group_4' over all pixels in float32. Those of the convolutions are taken after batch norm
        and ReLU. 'group_1_preactivation' to 'group_4_preactivation' are taken before the ReLU.

        Args:
          images: images of any height, width and number of channels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        x = conv(self.widths[0], self.dtype)(images)
        x = nn.relu(batch_norm(self.dtype, train=train, axis_name=axis_name)(x))
        features = {"group_0": x}
        for group, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for number in range(count):
                stride = 2 if group > 0 and number == 0 else 1
                y = Bottleneck(width, stride, self.dtype)(x, train=train, axis_name=axis_name)
                x = nn.relu(y)
            features |= {f"group_{group + 1}": x, f"group_{group + 1}_preactivation": y}
        layer = classifier(self.num_classes, kernel_init=TORCH_DEFAULT)
        return pool_and_classify(layer, x, features)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 with a residual connection.

    The connection is the identity, or a 1x1 convolution if the shape changes.
    """

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels] to [B, H / stride, W / stride, 4 width], before the ReLU."""
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        channels = _EXPANSION * self.width
        y = nn.relu(norm()(conv(self.width, self.dtype, size=1)(x)))
        y = nn.relu(norm()(conv(self.width, self.dtype, stride=self.stride)(y)))
        y = norm()(conv(channels, self.dtype, size=1)(y))
        if self.stride != 1 or x.shape[-1] != channels:
            x = norm()(conv(channels, self.dtype, size=1, stride=self.stride)(x))
        return y + x
