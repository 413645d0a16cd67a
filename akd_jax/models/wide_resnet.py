"""Wide residual networks (Zagoruyko and Komodakis, 2016, https://arxiv.org/abs/1605.07146)."""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import TORCH_DEFAULT, batch_norm, classifier, conv, pool_and_classify
from akd_jax.types import Outputs


class WideResNet(nn.Module):
    """The wide ResNet of depth 6n + 4: n pre-activation blocks in each of three groups.

    It consists of a 3x3 convolution to 16 channels, groups of 16k, 32k and 64k channels, batch
    norm, ReLU, a mean over all pixels and a dense layer. The second and third group start with
    stride 2. There is no dropout, as in the CIFAR-100 tables of knowledge distillation.

    Attributes:
      depth: 6n + 4.
      width: k.
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
    """

    depth: int
    width: int
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are 'group_0' [B, H, W, 16], the output of the first convolution; 'group_1',
        'group_2' and 'group_3', the outputs of the groups, [B, H, W, 16k], [B, H/2, W/2, 32k] and
        [B, H/4, W/4, 64k]; and 'pooled' [B, 64k], the input of the dense layer in float32. Those
        of the convolutions are sums of the residual connections: no batch norm or ReLU follows
        within the group. 'group_1_preactivation' to 'group_3_preactivation' are the same after
        the batch norm with which the next block, or the end of the network, begins, and before
        its ReLU. 'last_map' is the last one after its ReLU, whose mean is 'pooled'.

        Args:
          images: images of any height, width and number of channels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        x = conv(16, self.dtype)(images)
        features = {"group_0": x}
        for group, channels in enumerate((16, 32, 64)):
            for number in range((self.depth - 4) // 6):
                first = group > 0 and number == 0
                block = PreactivationBlock(channels * self.width, 2 if first else 1, self.dtype)
                x, y = block(x, train=train, axis_name=axis_name)
                if first:
                    features[f"group_{group}_preactivation"] = y
            features[f"group_{group + 1}"] = x
        y = batch_norm(self.dtype, train=train, axis_name=axis_name)(x)
        features |= {"group_3_preactivation": y, "last_map": nn.relu(y)}
        layer = classifier(self.num_classes, kernel_init=TORCH_DEFAULT)
        return pool_and_classify(layer, features["last_map"], features)


class PreactivationBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, with a residual connection.

    The connection is the identity. If the number of channels changes, it is a 1x1 convolution of
    the input after the first batch norm and ReLU.
    """

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, axis_name: str | None
    ) -> tuple[jax.Array, jax.Array]:
        """Maps [B, H, W, channels in] to [B, H / stride, W / stride, channels].

        Returns:
          The output of the block, and its input after the first batch norm.
        """
        norm = functools.partial(batch_norm, self.dtype, train=train, axis_name=axis_name)
        normalised = norm()(x)
        activated = nn.relu(normalised)
        y = conv(self.channels, self.dtype, stride=self.stride)(activated)
        y = conv(self.channels, self.dtype)(nn.relu(norm()(y)))
        if x.shape[-1] != self.channels:
            x = conv(self.channels, self.dtype, size=1, stride=self.stride)(activated)
        return y + x, normalised


def build(argument: str, num_classes: int, dtype: Any) -> WideResNet:
    """Builds the wide ResNet of a depth and a width, such as '16-2'.

    Raises:
      InputError: the argument is not DEPTH-WIDTH, or the depth is not 6n + 4.
    """
    match = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", argument)
    depth, width = map(int, match.groups()) if match else (0, 0)
    if depth < 10 or depth % 6 != 4:
        raise InputError(
            f"wrn:{argument}: expected DEPTH-WIDTH with a depth of 6n + 4, got {argument!r}; write"
            " it as in 'wrn:16-2'"
        )
    return WideResNet(depth=depth, width=width, num_classes=num_classes, dtype=dtype)
