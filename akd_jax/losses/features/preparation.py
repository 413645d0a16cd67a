"""Preparation of features for the losses: pairs of layers, maps, their sizes, and means per row."""

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.losses.binding import Layers, layer_names
from akd_jax.types import Array, Outputs


def prepare_features(
    student_features: Array, teacher_features: Array
) -> tuple[jax.Array, jax.Array]:
    """Returns float32 features; stops the gradient of the teacher's."""
    teacher = jax.lax.stop_gradient(jnp.asarray(teacher_features, jnp.float32))
    return jnp.asarray(student_features, jnp.float32), teacher


def read_pair(layers: Layers, student: Outputs, teacher: Outputs) -> tuple[jax.Array, jax.Array]:
    """Returns the float32 features of a pair of layers; stops the gradient of the teacher's.

    Args:
      layers: the feature that student and teacher call by this name; or a pair of names.
      student: the student's outputs.
      teacher: the teacher's outputs.

    Raises:
      ValueError: the features are not of the same examples.
    """
    student_layer, teacher_layer = layer_names(layers)
    pair = prepare_features(student.features[student_layer], teacher.features[teacher_layer])
    if len(pair[0]) != len(pair[1]):
        raise ValueError(
            f"features: expected the same examples in {student_layer!r} of the student and"
            f" {teacher_layer!r} of the teacher, got shapes {pair[0].shape} and {pair[1].shape}"
        )
    return pair


def as_map(features: jax.Array) -> jax.Array:
    """Returns maps [B, H, W, C] as they are, and vectors [B, D] as maps [B, 1, 1, D].

    Raises:
      ValueError: the features are neither maps nor vectors.
    """
    if features.ndim not in (2, 4):
        raise ValueError(
            "features: expected maps [B, H, W, C] or vectors [B, D], got shape"
            f" {features.shape}; choose other layers"
        )
    return features[:, None, None] if features.ndim == 2 else features


def check_maps(*features: jax.Array) -> None:
    """Raises ValueError unless all features are maps [B, H, W, C] of the same B examples."""
    if any(x.ndim != 4 or len(x) != len(features[0]) for x in features):
        raise ValueError(
            "features: expected maps [B, H, W, C] of the same examples, got shapes"
            f" {' and '.join(str(x.shape) for x in features)}; choose other layers"
        )


def mean_per_row(values: jax.Array) -> jax.Array:
    """Returns the mean over all elements of an example [B], or of a token of [B, L, D], [B, L]."""
    first = 2 if values.ndim == 3 else 1
    return values.mean(axis=tuple(range(first, values.ndim)))


def pool_to_smaller(one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Averages maps [B, H, W, C] over windows, so that both have the smaller height and width."""
    size = tuple(map(min, one.shape[1:3], other.shape[1:3]))
    return average_pool(one, size), average_pool(other, size)


def average_pool(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Averages maps [B, H, W, C] to [B, *size, C] over windows as PyTorch's adaptive pooling."""
    if maps.shape[1:3] == size:
        return maps
    rows, columns = (
        _pool_matrix(before, after) for before, after in zip(maps.shape[1:3], size, strict=True)
    )
    return jnp.einsum("oh,pw,bhwc->bopc", rows, columns, maps, precision=jax.lax.Precision.HIGHEST)


def _pool_matrix(before: int, after: int) -> np.ndarray:
    """Returns the matrix [after, before] that averages windows of about before / after pixels."""
    window, pixel = np.ogrid[:after, :before]
    # Window i holds the pixels from floor(i * before / after) to ceil((i + 1) * before / after).
    inside = (pixel >= window * before // after) & (pixel < -(-(window + 1) * before // after))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
