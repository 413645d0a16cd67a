"""MobileNetV2 for small images (Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381).

It is the network of the CIFAR-100 tables of Tian et al., ICLR 2020,
https://arxiv.org/abs/1910.10699. It differs from the original: it has ReLU instead of ReLU6; a 1x1
convolution also in the block without expansion; channels that are rounded down and not to a
multiple of 8; no dropout; and stride 1 in the second row of the table.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import batch_norm, classifier, conv, pool_and_classify
from akd_jax.types import Outputs

WIDTHS = (0.5, 1.0)

Row = tuple[int, int, int, int]  # Expansion, channels, number of blocks, stride of the first one.
# The rows of the paper's table, in the groups whose outputs are features.
ROWS: Sequence[Sequence[Row]] = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
_STEM = 32
_LAST = 1280  # The channels of the last convolution, which a width below 1 does not change.


class MobileNetV2(nn.Module):
    """MobileNetV2: a strided 3x3 convolution, inverted residual blocks and a 1x1 convolution.

    Attributes:
      width: factor of the channels of all layers but the last convolution, at most 1.
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
      rows: the rows of the table of blocks, by group.
    """

    width: float
    num_classes: int
    dtype: Any = jnp.float32
    rows: Sequence[Sequence[Row]] = ROWS

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are, with width k, 'group_0' [B, H/2, W/2, 32k], the output of the first
        convolution after batch norm and ReLU; 'group_1' [B, H/2, W/2, 24k], 'group_2'
        [B, H/4, W/4, 32k], 'group_3' [B, H/8, W/8, 96k] and 'group_4' [B, H/16, W/16, 320k], the
        outputs of the blocks; and 'pooled' [B, 1280], the mean of the last convolution over all
        pixels in float32. A block ends with batch norm and no ReLU, so that there are no
        preactivations apart from the features themselves.

        Args:
          images: images of any height, width and number of channels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        x = conv(int(_STEM * self.width), self.dtype, stride=2)(images)
        x = nn.relu(norm()(x))
        features = {"group_0": x}
        for group, rows in enumerate(self.rows, start=1):
            for expansion, channels, count, stride in rows:
                for number in range(count):
                    block = InvertedResidual(
                        int(channels * self.width),
                        expansion,
                        stride if number == 0 else 1,
                        self.dtype,
                    )
                    x = block(x, train=train, axis_name=axis_name)
            features[f"group_{group}"] = x
        x = nn.relu(norm()(conv(_LAST, self.dtype, size=1)(x)))
        layer = classifier(self.num_classes, kernel_init=nn.initializers.normal(0.01))
        return pool_and_classify(layer, x, features)


class InvertedResidual(nn.Module):
    """A 1x1 convolution that expands, a 3x3 one per channel, and a 1x1 one without ReLU.

    The residual connection is the identity; there is none if the shape changes.
    """

    channels: int
    expansion: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels in] to [B, H / stride, W / stride, channels]."""
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        hidden = x.shape[-1] * self.expansion
        y = nn.relu(norm()(conv(hidden, self.dtype, size=1)(x)))
        y = nn.relu(norm()(conv(hidden, self.dtype, stride=self.stride, groups=hidden)(y)))
        y = norm()(conv(self.channels, self.dtype, size=1)(y))
        return x + y if self.stride == 1 and x.shape[-1] == self.channels else y


def build(width: str, num_classes: int, dtype: Any) -> MobileNetV2:
    """Builds the MobileNetV2 of a width in WIDTHS; `width` is a string such as '0.5'.

    Raises:
      InputError: the width is not in WIDTHS.
    """
    if width not in map(str, WIDTHS):
        raise InputError(
            f"mobilenetv2:{width}: expected a width among {', '.join(map(str, WIDTHS))}, got"
            f" {width!r}; choose one of them"
        )
    return MobileNetV2(width=float(width), num_classes=num_classes, dtype=dtype)
