"""ShuffleNet V1 and V2 for small images.

The networks are those of the CIFAR-100 tables of Tian et al., ICLR 2020,
https://arxiv.org/abs/1910.10699. They differ from the originals at the beginning: the first
convolution is 1x1 with stride 1, and no pool follows.

Sources: Zhang et al., CVPR 2018, https://arxiv.org/abs/1707.01083, and Ma et al., ECCV 2018,
https://arxiv.org/abs/1807.11164.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.models import layers
from akd_jax.models.layers import TORCH_DEFAULT, batch_norm, classifier, pool_and_classify
from akd_jax.types import Outputs

_STEM = 24
conv = functools.partial(layers.conv, kernel_init=TORCH_DEFAULT)


class ShuffleNetV1(nn.Module):
    """ShuffleNet V1: three groups of blocks with grouped 1x1 convolutions.

    Attributes:
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
      widths: channels of each group of blocks.
      blocks: number of blocks of each group; the first one has stride 2.
      channel_groups: number of groups of channels of the 1x1 convolutions.
    """

    num_classes: int
    dtype: Any = jnp.float32
    widths: Sequence[int] = (240, 480, 960)
    blocks: Sequence[int] = (4, 8, 4)
    channel_groups: int = 3

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are 'group_0' [B, H, W, 24], the output of the first convolution; 'group_1'
        [B, H/2, W/2, 240], 'group_2' [B, H/4, W/4, 480] and 'group_3' [B, H/8, W/8, 960], the
        outputs of the groups; and 'pooled' [B, 960], the mean of 'group_3' over all pixels in
        float32. Those of the convolutions are taken after batch norm and ReLU.
        'group_1_preactivation' to 'group_3_preactivation' are taken before the ReLU.

        Args:
          images: images of any height, width and number of channels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        x = conv(_STEM, self.dtype, size=1)(images)
        x = nn.relu(batch_norm(self.dtype, train=train, axis_name=axis_name)(x))
        features = {"group_0": x}
        for group, (channels, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for number in range(count):
                # The few channels of the first convolution are not divided into groups.
                reduce_groups = 1 if group == number == 0 else self.channel_groups
                block = GroupedBlock(
                    channels,
                    2 if number == 0 else 1,
                    reduce_groups,
                    self.channel_groups,
                    self.dtype,
                )
                y = block(x, train=train, axis_name=axis_name)
                x = nn.relu(y)
            features |= {f"group_{group + 1}": x, f"group_{group + 1}_preactivation": y}
        layer = classifier(self.num_classes, kernel_init=TORCH_DEFAULT)
        return pool_and_classify(layer, x, features)


class GroupedBlock(nn.Module):
    """The block of ShuffleNet V1.

    It consists of a grouped 1x1 convolution to a quarter of the channels, a shuffle of the
    channels, a 3x3 convolution per channel, and a grouped 1x1 convolution. With stride 1 the input
    is added. With stride 2 its average over 3x3 pixels, zeros of the padding included, is appended
    as the last channels instead.
    """

    channels: int
    stride: int
    reduce_groups: int
    expand_groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels in] to [B, H / stride, W / stride, channels], before the ReLU."""
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        own = self.channels - (x.shape[-1] if self.stride == 2 else 0)
        hidden = own // 4
        y = nn.relu(norm()(conv(hidden, self.dtype, size=1, groups=self.reduce_groups)(x)))
        y = shuffle(y, self.reduce_groups)
        y = nn.relu(norm()(conv(hidden, self.dtype, stride=self.stride, groups=hidden)(y)))
        y = norm()(conv(own, self.dtype, size=1, groups=self.expand_groups)(y))
        if self.stride == 1:
            return y + x
        # nn.avg_pool divides by an integer, which strict promotion forbids.
        padding = ((1, 1), (1, 1))
        pooled = nn.pooling.pool(x, 0.0, jax.lax.add, (3, 3), (2, 2), padding) / 9.0
        return jnp.concatenate([y, pooled], axis=-1)


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2: three groups of blocks that convolve half of the channels.

    Attributes:
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
      widths: channels of each group of blocks.
      blocks: number of blocks of each group; the first one has stride 2.
      last: channels of the last convolution.
    """

    num_classes: int
    dtype: Any = jnp.float32
    widths: Sequence[int] = (116, 232, 464)
    blocks: Sequence[int] = (4, 8, 4)
    last: int = 1024

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are 'group_0' [B, H, W, 24], the output of the first convolution; 'group_1'
        [B, H/2, W/2, 116], 'group_2' [B, H/4, W/4, 232] and 'group_3' [B, H/8, W/8, 464], the
        outputs of the groups; and 'pooled' [B, 1024], the mean of the last convolution over all
        pixels in float32. Those of the convolutions are taken after batch norm and ReLU.
        'group_1_preactivation' to 'group_3_preactivation' are taken before the ReLU, in the same
        order of channels; the half of the channels that the last block copies has had its ReLU.

        Args:
          images: images of any height, width and number of channels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        x = nn.relu(norm()(conv(_STEM, self.dtype, size=1)(images)))
        features = {"group_0": x}
        for group, (channels, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for number in range(count):
                block = (DownBlock if number == 0 else SplitBlock)(channels, self.dtype)
                y = block(x, train=train, axis_name=axis_name)
                x = nn.relu(y)
            features |= {f"group_{group + 1}": x, f"group_{group + 1}_preactivation": y}
        x = nn.relu(norm()(conv(self.last, self.dtype, size=1)(x)))
        layer = classifier(self.num_classes, kernel_init=TORCH_DEFAULT)
        return pool_and_classify(layer, x, features)


class SplitBlock(nn.Module):
    """The block of ShuffleNet V2 with stride 1: it copies one half of the channels."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels] to [B, H, W, channels], before the ReLU."""
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        copied, y = jnp.split(x, 2, axis=-1)
        half = self.channels // 2
        y = nn.relu(norm()(conv(half, self.dtype, size=1)(y)))
        y = norm()(conv(half, self.dtype, groups=half)(y))
        y = norm()(conv(half, self.dtype, size=1)(y))
        return shuffle(jnp.concatenate([copied, y], axis=-1), 2)


class DownBlock(nn.Module):
    """The block of ShuffleNet V2 with stride 2: two branches, each with half of the channels."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, channels in] to [B, H / 2, W / 2, channels], before the ReLU."""
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        before, half = x.shape[-1], self.channels // 2
        left = norm()(conv(before, self.dtype, stride=2, groups=before)(x))
        left = norm()(conv(half, self.dtype, size=1)(left))
        right = nn.relu(norm()(conv(half, self.dtype, size=1)(x)))
        right = norm()(conv(half, self.dtype, stride=2, groups=half)(right))
        right = norm()(conv(half, self.dtype, size=1)(right))
        return shuffle(jnp.concatenate([left, right], axis=-1), 2)


def shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Returns [B, H, W, C] with the channels of the groups in turn: one of each, then the next."""
    parts = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return parts.swapaxes(-1, -2).reshape(x.shape)
