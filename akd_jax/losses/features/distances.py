"""Losses of features: hidden representations of student and teacher, compared per example.

Features are maps [B, H, W, C], tokens [B, L, D] or vectors [B, D]: B examples, H rows and W columns
of pixels, C channels, L tokens, D width. All losses compute in float32. The teacher's features get
no gradient.
"""

import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.features.preparation import mean_per_row, pool_to_smaller, prepare_features
from akd_jax.losses.rows import unit_rows
from akd_jax.types import Array


def feature_mse(
    student_features: Array, teacher_features: Array, *, mask: Array | None = None
) -> jax.Array:
    """Returns the mean of (F_s - F_t)^2 over all elements of an example, or of a token.

    The gradient is 2 (F_s - F_t) / n, where n is the number of these elements. `bind` gives the
    values of tokens [B, L] the weight 0 at padding: the mean of the loss runs over the real tokens
    of the batch. For attention scores, use `attention_mse`.

    Source: Romero et al., "FitNets", ICLR 2015, https://arxiv.org/abs/1412.6550, without the
    connector of `Hint`.

    Args:
      student_features: F_s, [B, ...].
      teacher_features: F_t, of the same shape.
      mask: which positions hold a token, bool [B, L]; None for features that are not of texts. It
        is only checked: the features of texts must be tokens [B, L, D] or vectors [B, D].

    Returns:
      float32 [B]; float32 [B, L] for tokens [B, L, D].

    Raises:
      ValueError: the shapes differ, or padding would count in the features of texts.
    """
    student, teacher = prepare_features(student_features, teacher_features)
    if mask is not None and student.ndim > 3:
        raise ValueError(
            "student_features: expected tokens [B, L, D] or vectors [B, D] of texts, got shape"
            f" {student.shape}; use attention_mse for attention scores"
        )
    if student.shape != teacher.shape:
        raise ValueError(
            f"teacher_features: expected the student's shape {student.shape}, got"
            f" {teacher.shape}; use Hint, which projects the student's features"
        )
    return mean_per_row(jnp.square(student - teacher))


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
    student, teacher = prepare_features(student_features, teacher_features)
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
        student, teacher = pool_to_smaller(student, teacher)
    student_map, teacher_map = (
        jnp.square(features).mean(axis=-1).reshape(len(features), -1)
        for features in (student, teacher)
    )
    if mask is None:
        return jnp.square(unit_rows(student_map) - unit_rows(teacher_map)).mean(axis=-1)
    positions = checks.broadcast_mask("mask", mask, student_map.shape).astype(jnp.float32)
    difference = unit_rows(student_map * positions) - unit_rows(teacher_map * positions)
    return jnp.square(difference).sum(axis=-1) / jnp.maximum(positions.sum(axis=-1), 1)
