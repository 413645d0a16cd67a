"""VGG for small images (Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556).

The networks are those of the CIFAR-100 tables of Tian et al., ICLR 2020,
https://arxiv.org/abs/1910.10699: they have batch norm, a mean over all pixels instead of the last
pool, and a single dense layer.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import batch_norm, classifier, conv, pool_and_classify
from akd_jax.types import Outputs

# The number of convolutions in each group, by depth.
CONVOLUTIONS = {
    "8": (1, 1, 1, 1, 1),
    "11": (1, 1, 2, 2, 2),
    "13": (2, 2, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """VGG: five groups of 3x3 convolutions with bias, batch norm and ReLU.

    A 2x2 max pool precedes the second, third and fourth group. It also precedes the fifth group
    if the images are 64 pixels high, as in Tiny ImageNet.

    Attributes:
      convolutions: the number of convolutions in each group.
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
      widths: channels of each group.
    """

    convolutions: Sequence[int]
    num_classes: int
    dtype: Any = jnp.float32
    widths: Sequence[int] = (64, 128, 256, 512, 512)

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are 'group_0' [B, H, W, 64], 'group_1' [B, H/2, W/2, 128], 'group_2'
        [B, H/4, W/4, 256], 'group_3' and 'group_4' [B, H/8, W/8, 512], the outputs of the groups
        before the pools; and 'pooled' [B, 512], the mean of 'group_4' over all pixels in float32.
        Those of the convolutions are taken after batch norm and ReLU. 'group_1_preactivation' to
        'group_4_preactivation' are taken before the ReLU.

        Args:
          images: images of at least 8x8 pixels.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.

        Raises:
          InputError: the images are too small.
        """
        height, width = images.shape[1:3]
        if min(height, width) < 8:
            raise InputError(
                f"vgg: expected images of at least 8x8 pixels, got {height}x{width}; choose another"
                " network"
            )
        x = images
        features: dict[str, jax.Array] = {}
        for group, (count, channels) in enumerate(zip(self.convolutions, self.widths, strict=True)):
            if group in (1, 2, 3) or (group == 4 and height == 64):
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            for _ in range(count):
                x = conv(channels, self.dtype, use_bias=True)(x)
                y = batch_norm(self.dtype, train=train, axis_name=axis_name)(x)
                x = nn.relu(y)
            features[f"group_{group}"] = x
            if group > 0:
                features[f"group_{group}_preactivation"] = y
        layer = classifier(self.num_classes, kernel_init=nn.initializers.normal(0.01))
        return pool_and_classify(layer, x, features)


def build(depth: str, num_classes: int, dtype: Any) -> VGG:
    """Builds the VGG of a depth in CONVOLUTIONS; `depth` is a string such as '8'.

    Raises:
      InputError: the depth is not in CONVOLUTIONS.
    """
    if depth not in CONVOLUTIONS:
        raise InputError(
            f"vgg:{depth}: expected a depth among {', '.join(CONVOLUTIONS)}, got {depth!r};"
            " choose one of them"
        )
    return VGG(CONVOLUTIONS[depth], num_classes=num_classes, dtype=dtype)
