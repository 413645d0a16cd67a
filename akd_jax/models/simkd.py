"""The student of SimKD, which predicts with the classifier of its teacher.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import batch_norm, conv
from akd_jax.types import Head, Outputs

FROZEN = "frozen"  # The collection of the classifier, which no optimizer changes.


class SimKD(nn.Module):
    """A network whose last map is transferred to the channels of a teacher's, and its classifier.

    The transfer consists of a 1x1 convolution to half of the channels, a 3x3 convolution, and a 1x1
    convolution to all channels, each followed by batch norm and ReLU. The logits are those of the
    classifier on the mean of the transferred map over all pixels.

    The classifier is in the collection 'frozen', with 'kernel' [D, C] and 'bias' [C]: it is saved
    and exported with the other variables, and is not trained. It is 0 until the method simkd sets
    it to the teacher's. The classifier of the backbone has parameters too, which nothing reads.

    Attributes:
      backbone: the network that is transferred; it returns maps as 'group_1', 'group_2', ...
      channels: D, the channels of the teacher's last map.
      num_classes: C.
      dtype: dtype of the convolutions; parameters, statistics and logits are float32.
    """

    backbone: nn.Module
    channels: int
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps images [B, H, W, channels] to logits [B, C] and features.

        The features are those of the backbone; 'transferred' [B, H', W', D]; and 'pooled' [B, D],
        the mean of 'transferred' over all pixels in float32, in place of the backbone's.

        Args:
          images: images that the backbone accepts.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.

        Raises:
          InputError: the backbone returns no maps.
        """
        features = self.backbone(images, train=train, axis_name=axis_name).features
        x = features[last_map(features)]
        for channels, size in (
            (self.channels // 2, 1),
            (self.channels // 2, 3),
            (self.channels, 1),
        ):
            x = conv(channels, self.dtype, size=size)(x)
            x = nn.relu(batch_norm(self.dtype, train=train, axis_name=axis_name)(x))
        pooled = x.mean(axis=(1, 2), dtype=jnp.float32)
        shapes = {"kernel": (self.channels, self.num_classes), "bias": (self.num_classes,)}
        head = Head(**{n: self.variable(FROZEN, n, jnp.zeros, s).value for n, s in shapes.items()})
        logits = pooled @ head.kernel + head.bias
        return Outputs(logits, {**features, "transferred": x, "pooled": pooled}, head=head)


def last_map(features: Mapping[str, Any]) -> str:
    """Returns the name of the last map among features.

    It is 'last_map', which networks return whose classifier reads another map than that of a
    group; or 'group_N' with the largest N.

    Raises:
      InputError: there is no such feature.
    """
    if "last_map" in features:
        return "last_map"
    numbers = [int(name[1]) for x in features if (name := re.fullmatch(r"group_(\d+)", x))]
    if not numbers:
        raise InputError(
            "simkd: expected networks that return maps as group_1, group_2, ..., got the features"
            f" {', '.join(features) or 'none'}; choose a convolutional network"
        )
    return f"group_{max(numbers)}"


def build(
    argument: str, num_classes: int, dtype: Any, build_backbone: Callable[..., nn.Module]
) -> SimKD:
    """Builds the student of SimKD.

    Args:
      argument: CHANNELS,STUDENT, such as '64,resnet:8': an even number of channels, and the
        specification of the backbone.
      num_classes: C.
      dtype: dtype of the computation.
      build_backbone: builds a network from its specification, C and the dtype.

    Raises:
      InputError: the argument has another form.
    """
    channels, _, backbone = argument.partition(",")
    name = backbone.partition(":")[0]
    valid = re.fullmatch(r"[1-9]\d*", channels) and int(channels) % 2 == 0
    if not valid or name in ("", "simkd", "huggingface"):
        raise InputError(
            "simkd: expected CHANNELS,STUDENT with an even number of channels and a convolutional"
            f" network, got {argument!r}; write simkd:64,resnet:8"
        )
    return SimKD(
        build_backbone(backbone, num_classes, dtype), int(channels), num_classes, dtype=dtype
    )
