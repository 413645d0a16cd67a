"""Plain convolutional networks in the notation of the Annealing-KD paper."""

import itertools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import batch_norm, classifier, classify, conv
from akd_jax.types import Outputs

# The networks of the paper for 10 and for 100 classes, by depth.
LAYERS_10 = {
    "2": "16 M 16 M FC",
    "4": "16 16 M 32 32 M FC",
    "6": "16 16 M 32 32 M 64 64 M FC",
    "8": "16 16 M 32 32 M 64 64 M 128 128 M FC64 FC",
    "10": "32 32 M 64 64 M 128 128 M 256 256 256 256 M FC128 FC",
}
LAYERS_100 = {
    "2": "32 M 32 M FC",
    "4": "32 32 M 64 64 M FC",
    "6": "32 32 M 64 64 M 128 128 FC",
    "8": "32 32 M 64 64 M 128 128 M 256 256 M FC64 FC",
    "10": "32 32 M 64 64 M 128 128 M 256 256 256 256 M FC512 FC",
}

_WORD = re.compile(r"M|[1-9]\d*|FC[1-9]\d*")


class PlainCNN(nn.Module):
    """A sequence of convolutions, max pools and dense layers.

    Attributes:
      layers: words separated by spaces. `16` is a 3x3 convolution to 16 channels without bias,
        followed by batch norm and ReLU. `M` is a 2x2 max pool. `FC64` is a dense layer to 64
        features, followed by ReLU. The last word, `FC`, is the dense layer to the logits. The
        paper's CNN-2 for CIFAR-10 is '16 M 16 M FC'.
      num_classes: C.
      dtype: dtype of the computation; parameters, statistics and logits are float32.
    """

    layers: str
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are 'group_1', 'group_2', ... [B, H, W, channels], the output of each block
        of convolutions; and 'pooled' [B, D], the input of the last dense layer in float32. A
        block is a sequence of convolutions that a pool, a dense layer or the logits follow. Its
        output is taken before that pool, after batch norm and ReLU; 'group_1_preactivation', ...
        are taken before the ReLU. In '16 16 M 32 FC8 FC'
        'group_1' has 16 channels, 'group_2' has 32 channels and 'pooled' has 8 elements. In
        '16 M FC' 'pooled' holds all pixels and channels of the pool's output.

        Args:
          images: images of any height and width that leave at least one pixel after the pools.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.

        Raises:
          InputError: no pixel is left after a pool.
        """
        x = images
        features: dict[str, jax.Array] = {}
        group = 0
        for word, following in itertools.pairwise(self.layers.split()):
            if word == "M":
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
                if 0 in x.shape:
                    raise InputError(
                        f"plain_cnn:{self.layers}: expected images with a pixel left after every"
                        f" pool, got {images.shape[1]}x{images.shape[2]}; remove an M"
                    )
            elif word.startswith("FC"):
                x = nn.relu(nn.Dense(int(word[2:]), dtype=self.dtype)(x.reshape(x.shape[0], -1)))
            else:
                x = conv(int(word), self.dtype)(x)
                y = batch_norm(self.dtype, train=train, axis_name=axis_name)(x)
                x = nn.relu(y)
                if not following.isdigit():
                    group += 1
                    features |= {f"group_{group}": x, f"group_{group}_preactivation": y}
        pooled = x.reshape(x.shape[0], -1).astype(jnp.float32)
        logits, head = classify(classifier(self.num_classes), pooled)
        return Outputs(logits, {**features, "pooled": pooled}, head=head)


def build(layers: str, num_classes: int, dtype: Any) -> PlainCNN:
    """Builds a plain CNN.

    Args:
      layers: words as in `PlainCNN`, or the depth of one of the paper's networks: '2', '4', '6',
        '8' or '10'. A depth selects the CIFAR-10 network for up to 10 classes and the wider
        CIFAR-100 network for more.
      num_classes: C.
      dtype: dtype of the computation.

    Raises:
      InputError: a word is unknown, a convolution or pool follows a dense layer, or the last
        word is not FC.
    """
    layers = (LAYERS_10 if num_classes <= 10 else LAYERS_100).get(layers, layers)
    *hidden, last = layers.split() or [""]
    dense = False
    for word in hidden:
        dense = dense or word.startswith("FC")
        if not _WORD.fullmatch(word) or (dense and not word.startswith("FC")):
            raise InputError(
                f"plain_cnn:{layers}: expected channels, M or, after all of them, FC with a"
                f" size, got {word!r}; write the layers as in 'plain_cnn:16 M 16 M FC64 FC'"
            )
    if last != "FC":
        raise InputError(
            f"plain_cnn:{layers}: expected FC, the layer of the logits, as the last word, got"
            f" {last!r}; write the layers as in 'plain_cnn:16 M 16 M FC'"
        )
    return PlainCNN(layers=" ".join([*hidden, last]), num_classes=num_classes, dtype=dtype)
