"""ReviewKD: each layer of the student, fused with its deeper layers, learns a teacher's layer."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, value_weights
from akd_jax.losses.features.distances import feature_mse
from akd_jax.losses.features.preparation import as_map, average_pool, prepare_features, read_pair
from akd_jax.losses.features.projectors import batch_norm
from akd_jax.types import Array, Batch, Clock, Outputs, Term

_POOLED_SIZES = (4, 2, 1)


def hcl(student_features: Array, teacher_features: Array) -> jax.Array:
    """Returns the error of maps at several resolutions, the hierarchical context loss (HCL).

        value = sum_k w_k mean (P_k F_s - P_k F_t)^2 / sum_k w_k        w_k = 2^-k

    P_0 keeps the map. P_1, P_2, ... are those average pools to 4x4, 2x2 and 1x1 pixels that are
    smaller than the map. It is the loss of `ReviewKD`.

    Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021,
    https://arxiv.org/abs/2104.09044.

    Args:
      student_features: F_s, maps [B, H, W, C]; or vectors [B, C], which are maps of one pixel.
      teacher_features: F_t, of the same shape.

    Returns:
      float32 [B].

    Raises:
      ValueError: the shapes differ, or the features are neither maps nor vectors.
    """
    student, teacher = map(as_map, prepare_features(student_features, teacher_features))
    value = feature_mse(student, teacher)
    weight = total = 1.0
    for size in _POOLED_SIZES:
        if size < min(student.shape[1:3]):
            weight /= 2
            total += weight
            pooled = (average_pool(x, (size, size)) for x in (student, teacher))
            value += weight * feature_mse(*pooled)
    return value / total


class ReviewKD(nn.Module):
    """The errors of the teacher's layers, seen from the student's layer and all deeper ones.

        R_i = a_i * conv1x1(F_s_i) + b_i * up(R_(i+1))        value = sum_i hcl(conv3x3(R_i), F_t_i)

    R_n of the deepest layer is conv1x1(F_s_n). A batch norm follows each of these convolutions.
    a_i and b_i hold one weight per pixel. They are the sigmoid of a 1x1 convolution of the two
    maps. `up` repeats pixels. R_i is also resized in this way if the teacher's
    map has another size. All R_i have as many channels as the student's deepest layer, at most
    `max_channels`.

    The usual weight, next to a cross-entropy of weight 1, depends on the networks: 5 for ResNet-8x4
    with the teacher ResNet-32x4, 1 for ResNet-32 with ResNet-110, 0.6 for ResNet-20 with ResNet-56.
    In the first 20 epochs the published code multiplies it by epoch / 20. That is a schedule of the
    weight, not part of this loss: `schedules.warm_up(5.0, epochs=20)`.

    The published code reads the teacher's layers before their ReLU, and the student's after it.

    The parameters are trained with the student and belong to the loss. The batch norms always use
    the statistics of the batch, over all devices.

    Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021,
    https://arxiv.org/abs/2104.09044.

    Attributes:
      layers: the layers from the shallowest to the deepest. Each is a feature that student and
        teacher call by this name; or a pair, the student's feature and the teacher's. Features are
        maps [B, H, W, C] or vectors [B, D].
      teacher: the name of the teacher.
      max_channels: the largest number of channels of the fused maps, at least 1.
    """

    layers: tuple[Layers, ...] = (
        ("group_1", "group_1_preactivation"),
        ("group_2", "group_2_preactivation"),
        ("group_3", "group_3_preactivation"),
        "pooled",
    )
    teacher: str = "teacher"
    max_channels: int = 512

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
        """Returns one term: a value per example [B].

        Raises:
          ValueError: there is no layer, a layer is neither a map nor a vector, or an option is out
            of range.
        """
        del clock
        checks.check_values(
            "max_channels", self.max_channels, "at least 1 channel", lambda x: x >= 1
        )
        if not self.layers:
            raise ValueError("ReviewKD: expected at least one layer, got none; set layers")
        pairs = [read_pair(layers, student, teachers[self.teacher]) for layers in self.layers]
        pairs = [(as_map(features), as_map(target)) for features, target in pairs]
        channels = min(self.max_channels, pairs[-1][0].shape[-1])
        fused = None
        values = jnp.zeros(len(batch.weights))
        for number, (features, target) in reversed(list(enumerate(pairs))):
            fusion = _Fusion(channels, target.shape[1:], name=f"fusion_{number}")
            output, fused = fusion(features, fused, axis_name=axis_name)
            values += hcl(output, target)
        return {UNNAMED: Term(values, value_weights(values, student, batch))}


class _Fusion(nn.Module):
    """Fuses the map of a layer with that of the deeper layers (ABF, attention based fusion).

    Attributes:
      channels: the number of channels of the fused map.
      shape: the height, width and channels of the teacher's map.
    """

    channels: int
    shape: tuple[int, ...]

    @nn.compact
    def __call__(
        self, features: jax.Array, deeper: jax.Array | None, *, axis_name: str | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns a map of the teacher's shape, and the fused map for the next layer."""
        *size, teacher_channels = self.shape
        x = nn.Conv(self.channels, (1, 1), use_bias=False)(features)
        x = batch_norm(axis_name)(x)
        if deeper is not None:
            deeper = _resize(deeper, x.shape[1:3])
            both = jnp.concatenate([x, deeper], axis=-1)
            attention = nn.sigmoid(nn.Conv(2, (1, 1))(both))
            x = attention[..., :1] * x + attention[..., 1:] * deeper
        x = _resize(x, size)
        output = nn.Conv(teacher_channels, (3, 3), padding=1, use_bias=False)(x)
        return batch_norm(axis_name)(output), x


def _resize(maps: jax.Array, size: tuple[int, ...] | list[int]) -> jax.Array:
    """Resizes maps [B, H, W, C] to [B, *size, C] by the nearest pixel, as PyTorch does."""
    rows, columns = (
        np.arange(after) * before // after
        for before, after in zip(maps.shape[1:3], size, strict=True)
    )
    return maps[:, rows][:, :, columns]
