"""Losses of features: hidden representations of student and teacher, compared per example.

Features are maps [B, H, W, C], tokens [B, L, D] or vectors [B, D]: B examples, H rows and W columns
of pixels, C channels, L tokens, D width. All losses compute in float32. The teacher's features get
no gradient.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import checks
from akd_jax.losses.compose import UNNAMED, Layers, layer_names, value_weights
from akd_jax.types import Array, Batch, Clock, Outputs, Term

_SMALLEST_NORM = 1e-12  # The epsilon of PyTorch's `normalize`.


def feature_mse(
    student_features: Array, teacher_features: Array, *, mask: Array | None = None
) -> jax.Array:
    """Returns the mean of (F_s - F_t)^2 over all elements of an example, or of a token.

    The gradient is 2 (F_s - F_t) / n, where n is the number of these elements. `bind` gives the
    values of tokens [B, L] the weight 0 at padding: the mean of the loss runs over the real tokens
    of the batch. The mean over attention scores runs over the heads and the pairs of real tokens.

    Args:
      student_features: F_s, [B, ...].
      teacher_features: F_t, of the same shape.
      mask: which positions hold a token, bool [B, L]; None for features that are not of texts. Only
        attention scores [B, heads, L, L] need it.

    Returns:
      float32 [B]; float32 [B, L] for tokens [B, L, D].

    Raises:
      ValueError: the shapes differ, or the mask does not fit attention scores.
    """
    student, teacher = _prepare_pair(student_features, teacher_features)
    if student.shape != teacher.shape:
        raise ValueError(
            f"teacher_features: expected the student's shape {student.shape}, got"
            f" {teacher.shape}; use Hint, which projects the student's features"
        )
    squares = jnp.square(student - teacher)
    if squares.ndim == 4 and mask is not None:
        queries = checks.broadcast_mask("mask", mask[:, None, :, None], squares.shape)
        keys = checks.broadcast_mask("mask", mask[:, None, None, :], squares.shape)
        real = (queries & keys).astype(jnp.float32)
        return (squares * real).sum(axis=(1, 2, 3)) / jnp.maximum(real.sum(axis=(1, 2, 3)), 1)
    first = 2 if squares.ndim == 3 else 1
    return squares.mean(axis=tuple(range(first, squares.ndim)))


def attention_transfer(
    student_features: Array, teacher_features: Array, *, mask: Array | None = None
) -> jax.Array:
    """Returns the squared difference of normalised attention maps (AT).

        A = mean_c F_c^2        value = mean over positions of (A_s / ||A_s|| - A_t / ||A_t||)^2

    A position is a pixel of a map or a token. The norm and the mean run over the positions of one
    example, for tokens over those of the mask. Student and teacher may have different numbers of
    channels. If their maps differ in size, the larger map is average-pooled to the size of the
    smaller one before it is squared. An attention map that is 0 stays 0.

    This is the form of the authors' code, whose weight is 1000 next to a cross-entropy of weight
    1. The paper's formula has the norm of the difference of the two maps, times a weight / 2,
    instead of the mean of its squares.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017,
    https://arxiv.org/abs/1612.03928.

    Args:
      student_features: F_s, maps [B, H, W, C] or tokens [B, L, D].
      teacher_features: F_t, maps [B, H', W', C'] or tokens [B, L, D'].
      mask: which positions hold a token, bool [B, L]; None for all positions, and for maps.

    Returns:
      float32 [B].

    Raises:
      ValueError: the features are neither both maps nor both tokens of the same texts, or the
        mask does not fit.
    """
    student, teacher = _prepare_pair(student_features, teacher_features)
    are_maps = student.ndim == teacher.ndim == 4 and mask is None
    are_tokens = student.ndim == teacher.ndim == 3
    shared = 1 if are_maps else 2  # The leading axes that student and teacher share.
    if not (are_maps or are_tokens) or student.shape[:shared] != teacher.shape[:shared]:
        raise ValueError(
            "features: expected maps [B, H, W, C] of both student and teacher, or tokens [B, L, D]"
            f" of the same texts, got shapes {student.shape} and {teacher.shape}"
            f"{'' if mask is None else ' of texts'}; choose other layers"
        )
    if are_maps:
        size = tuple(map(min, student.shape[1:3], teacher.shape[1:3]))
        student, teacher = _average_pool(student, size), _average_pool(teacher, size)
    student_map, teacher_map = (
        jnp.square(features).mean(axis=-1).reshape(len(features), -1)
        for features in (student, teacher)
    )
    if mask is None:
        return jnp.square(unit_rows(student_map) - unit_rows(teacher_map)).mean(axis=-1)
    positions = checks.broadcast_mask("mask", mask, student_map.shape).astype(jnp.float32)
    difference = unit_rows(student_map * positions) - unit_rows(teacher_map * positions)
    return jnp.square(difference).sum(axis=-1) / jnp.maximum(positions.sum(axis=-1), 1)


class Hint(nn.Module):
    """FitNets' hint: the error of the student's features after a trained projection.

        value = mean (r(F_s) - F_t)^2

    The mean is that of `feature_mse`. r maps the student's features to the shape of the teacher's:
      - maps [B, H, W, C] by a convolution: 3x3 with stride 2 if the student's map is twice as
        large as the teacher's; 4x4, transposed, with stride 2 if it is half as large; otherwise
        without padding, of size 1 + H_s - H_t, which is 1x1 for maps of one size.
      - vectors [B, D] and tokens [B, L, D] by a dense layer.
    As in the published comparison of RepDistiller, whose weight is 100 next to a cross-entropy of
    weight 1, batch norm and ReLU follow the convolution. A ReLU cannot reach negative features:
    set relu=False for a teacher's features that were taken before its activation. The paper
    minimises ||r(F_s) - F_t||^2 / 2 in a stage of its own.

    The parameters of r are trained with the student and belong to the loss. The running statistics
    of its batch norm, in the collection 'batch_stats', are only kept: training always uses those of
    the batch, over all devices.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015,
    https://arxiv.org/abs/1412.6550; Tian et al., "Contrastive Representation Distillation", ICLR
    2020, https://arxiv.org/abs/1910.10699, for the comparison.

    Attributes:
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      teacher: the name of the teacher.
      batch_norm: whether a batch norm follows; None for maps only. Tokens cannot have one, since
        padding would enter its statistics.
      relu: whether a ReLU follows; None for maps only.
    """

    layers: Layers
    teacher: str = "teacher"
    batch_norm: bool | None = None
    relu: bool | None = None

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
        """Returns one term: a value per example [B], or per token [B, L].

        Raises:
          ValueError: no projection maps the student's shape to the teacher's.
        """
        del clock
        student_layer, teacher_layer = layer_names(self.layers)
        features, target = _prepare_pair(
            student.features[student_layer], teachers[self.teacher].features[teacher_layer]
        )
        is_map = features.ndim == 4
        normalises = is_map if self.batch_norm is None else self.batch_norm
        if normalises and features.ndim == 3:
            raise ValueError(
                "Hint: expected no batch norm for tokens, got batch_norm=True; leave it out"
            )
        # A bias in front of a batch norm would change nothing.
        x = _projector(features.shape, target.shape, use_bias=not normalises)(features)
        if normalises:
            # The momentum and epsilon of PyTorch.
            x = nn.BatchNorm(
                use_running_average=False, momentum=0.9, epsilon=1e-5, axis_name=axis_name
            )(x)
        if is_map if self.relu is None else self.relu:
            x = nn.relu(x)
        values = feature_mse(x, target)
        return {UNNAMED: Term(values, value_weights(values, student, batch))}


def unit_rows(rows: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns rows divided by their norms; rows of norm 0 stay 0 and get no gradient.

    Args:
      rows: float32 [..., n].
      weights: the weight of each of the n squares in the norm, [n]; None for 1.
    """
    squares = jnp.square(rows) if weights is None else weights * jnp.square(rows)
    square = squares.sum(axis=-1, keepdims=True)
    positive = square > _SMALLEST_NORM**2
    # The derivative of the square root at 0 is infinite; times 0 it would be NaN.
    return jnp.where(positive, rows / jnp.sqrt(jnp.where(positive, square, 1)), 0)


def _prepare_pair(student_features: Array, teacher_features: Array) -> tuple[jax.Array, jax.Array]:
    """Returns float32 features; stops the gradient of the teacher's."""
    teacher = jax.lax.stop_gradient(jnp.asarray(teacher_features, jnp.float32))
    return jnp.asarray(student_features, jnp.float32), teacher


def _average_pool(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
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


def _projector(student: tuple[int, ...], teacher: tuple[int, ...], *, use_bias: bool) -> nn.Module:
    """Returns the layer that maps features of the student's shape to the teacher's shape."""
    if len(student) == len(teacher) and len(student) in (2, 3):
        return nn.Dense(teacher[-1], use_bias=use_bias)
    if len(student) == len(teacher) == 4:
        before, after = student[1:3], teacher[1:3]
        if all(s == 2 * t for s, t in zip(before, after, strict=True)):
            return nn.Conv(teacher[-1], (3, 3), (2, 2), padding=1, use_bias=use_bias)
        if all(2 * s == t for s, t in zip(before, after, strict=True)):
            return nn.ConvTranspose(teacher[-1], (4, 4), (2, 2), use_bias=use_bias)
        kernel = tuple(1 + s - t for s, t in zip(before, after, strict=True))
        if min(kernel) > 0:
            return nn.Conv(teacher[-1], kernel, padding="VALID", use_bias=use_bias)
    raise ValueError(
        "Hint: expected both maps [B, H, W, C], both tokens [B, L, D] or both vectors [B, D], and"
        " a student's map that is half as large as the teacher's or at least as large, got shapes"
        f" {student} and {teacher}; choose other layers"
    )
