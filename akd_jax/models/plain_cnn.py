"""Plain convolutional networks, written as the paper's tables write them."""

import re

import flax.linen as nn
import jax

from akd_jax.errors import InputError
from akd_jax.types import Outputs

_TOKEN = re.compile(r"M|[1-9]\d*|FC[1-9]\d*")
_HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class PlainCNN(nn.Module):
    """Convolutions, pools and dense layers in a row.

    Attributes:
      layers: words with spaces between: `16` is a 3x3 convolution to 16 channels without
        bias, batch norm and ReLU; `M` a 2x2 max pool; `FC64` a dense layer to 64 with ReLU;
        the last word is `FC`, the dense layer to the logits. The paper's CNN-2 for
        CIFAR-10 is '16 M 16 M FC'.
      num_classes: C.
    """

    layers: str
    num_classes: int

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C].

        Args:
          images: any height and width that leave at least one pixel after the pools.
          train: whether batch norm uses the batch's statistics and updates its running ones.
          axis_name: the devices' axis over which those statistics are taken.
        """
        x = images
        *hidden, _ = self.layers.split()
        for word in hidden:
            if word == "M":
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
                if 0 in x.shape:
                    raise InputError(
                        f"plain_cnn:{self.layers}: expected images with a pixel left after every"
                        f" pool, got {images.shape[1]}x{images.shape[2]}; take out an M"
                    )
            elif word.startswith("FC"):
                x = nn.relu(nn.Dense(int(word[2:]))(x.reshape((x.shape[0], -1))))
            else:
                x = nn.Conv(int(word), (3, 3), use_bias=False, kernel_init=_HE_FAN_OUT)(x)
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=1e-5,
                    axis_name=axis_name if train else None,
                )(x)
                x = nn.relu(x)
        return Outputs(logits=nn.Dense(self.num_classes)(x.reshape((x.shape[0], -1))))


def build(layers: str, num_classes: int) -> PlainCNN:
    """Checks `layers` and makes the module.

    Raises:
      InputError: a word is unknown, a convolution or pool follows a dense layer, or the last
        word is not FC.
    """
    *hidden, last = layers.split() or [""]
    dense = False
    for word in hidden:
        dense = dense or word.startswith("FC")
        if not _TOKEN.fullmatch(word) or (dense and not word.startswith("FC")):
            raise InputError(
                f"plain_cnn:{layers}: expected channels, M or (only after them) FC with a size,"
                f" got {word!r}; write the layers as in 'plain_cnn:16 M 16 M FC64 FC'"
            )
    if last != "FC":
        raise InputError(
            f"plain_cnn:{layers}: expected FC, the layer to the logits, as the last word, got"
            f" {last!r}; write the layers as in 'plain_cnn:16 M 16 M FC'"
        )
    return PlainCNN(layers=" ".join([*hidden, last]), num_classes=num_classes)
