"""Masked generative distillation: the teacher's map from a part of the student's."""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, value_weights
from akd_jax.losses.features.preparation import check_maps, read_pair
from akd_jax.losses.features.projectors import projector
from akd_jax.losses.randomness import example_keys
from akd_jax.types import Batch, Clock, Outputs, Term


class MGD(nn.Module):
    """The squared error of the teacher's map, generated from the student's masked map (MGD).

        value = sum of (G(M r(F_s)) - F_t)^2

    The mask M sets random pixels, or channels, of each example to 0; every update draws another
    one. G consists of two 3x3 convolutions with a ReLU between them. r is the layer that
    `projector` chooses for the two shapes, a 1x1 convolution for maps of one size; maps of one
    shape have none. The sum runs over all elements of an example. G and r are trained with the
    student and belong to the loss.

    The paper masks pixels. The authors' code masks pixels at the rate 0.65, with the weight 2e-5,
    for detection. For classification it masks channels at the rate 0.15, with the weight 7e-5 for
    ImageNet and 12e-4 for CIFAR-100, with the last group, next to a cross-entropy of weight 1.
    Model-Optimizer has the mean over all elements instead of the sum, with the weight 1.

    The masks do not depend on the number of devices. Those of an example depend on its id, if the
    batch has ids.

    Source: Yang et al., "Masked Generative Distillation", ECCV 2022,
    https://arxiv.org/abs/2205.01529.

    Attributes:
      layers: the map that student and teacher call by this name; or a pair, the student's feature
        and the teacher's.
      teacher: the name of the teacher.
      masked: 'pixels' to set random pixels to 0 in all channels; 'channels' to set random channels
        to 0 in all pixels.
      rate: probability that a pixel or channel is set to 0, from 0 to less than 1.
    """

    layers: Layers
    teacher: str = "teacher"
    masked: Literal["pixels", "channels"] = "pixels"
    rate: float = 0.65

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
        *,
        axis_name: str | None = None,
    ) -> Mapping[str, Term]:
        """Returns one term, a value per example [B].

        Raises:
          ValueError: the features are not maps, no projection maps the student's shape to the
            teacher's, or an option is out of its range.
        """
        del clock
        features, target = read_pair(self.layers, student, teachers[self.teacher])
        check_maps(features, target)
        channels = target.shape[-1]
        x = features
        if features.shape != target.shape:
            x = projector(features.shape, target.shape)(features)
        x = x * self.draw_mask(target.shape, batch, axis_name).astype(jnp.float32)
        x = nn.relu(nn.Conv(channels, (3, 3), name="generator_0")(x))
        x = nn.Conv(channels, (3, 3), name="generator_1")(x)
        values = jnp.square(x - target).sum(axis=(1, 2, 3))
        return {UNNAMED: Term(values, value_weights(values, student, batch))}

    def draw_mask(
        self, shape: tuple[int, ...], batch: Batch, axis_name: str | None = None
    ) -> jax.Array:
        """Returns what the mask keeps, bool [B, H, W, 1] or [B, 1, 1, C].

        Args:
          shape: the shape of the maps, [B, H, W, C].
          batch: this device's share of a batch.
          axis_name: the axis of the devices; None for one device.

        Raises:
          ValueError: the rate is out of range, or the kind of mask is unknown.
        """
        checks.check_values("rate", self.rate, "a number in [0, 1)", lambda x: (x >= 0) & (x < 1))
        _, height, width, channels = shape
        shapes = {"pixels": (height, width, 1), "channels": (1, 1, channels)}
        if self.masked not in shapes:
            raise ValueError(f"masked: expected 'pixels' or 'channels', got {self.masked!r}")
        keys = example_keys(self.make_rng("loss"), batch, axis_name)
        return jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shapes[self.masked]))(
            keys
        )
