"""Transformed teacher matching: the temperature only flattens the teacher, one value per row.

The conventions are those of `akd_jax.losses.logits.divergences`. The power transform of
probabilities p with an exponent gamma is t_c = p_c^gamma / sum_k p_k^gamma, the softmax of gamma
z_t: a temperature 1 / gamma. The student's probabilities are q = softmax(z_s).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import (
    exclude_masked,
    log_softmax,
    positive_option,
    prepare_pair,
)
from akd_jax.losses.logits.probabilities import kl_divergence
from akd_jax.types import Array


def ttm(
    student_logits: Array,
    teacher_logits: Array,
    *,
    gamma: ArrayLike = 0.1,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns KL(t || q), with t = softmax(gamma z_t) and q = softmax(z_s) (TTM).

    In contrast to `kl`, the student has no temperature, and there is no factor T^2. The weight
    depends on gamma and on the networks: the authors use 45 with gamma 0.1 for a VGG-13 that
    teaches a VGG-8, next to a cross-entropy of weight 1.

    Source: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR
    2024, https://arxiv.org/abs/2402.11148.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      gamma: the exponent of the teacher's probabilities, greater than 0, a scalar or one value per
        row; below 1 it flattens them, as a temperature 1 / gamma does.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: the shapes of the logits differ, gamma has another shape than the rows or is not
        positive, or the mask does not fit the logits.
    """
    values, _ = _matching(student_logits, teacher_logits, gamma, axis, where)
    return values


def wttm(
    student_logits: Array,
    teacher_logits: Array,
    *,
    gamma: ArrayLike = 0.2,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns `ttm` times sum_c p_c^gamma of its row, with p = softmax(z_t) (WTTM).

    For gamma < 1, the factor is largest, C^(1 - gamma), where the teacher is least certain. The
    weight depends on gamma and on the networks: the authors use 4 with gamma 0.2 for a VGG-13 that
    teaches a VGG-8, as an addition to CRD.

    Source: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR
    2024, https://arxiv.org/abs/2402.11148.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      gamma: the exponent of the teacher's probabilities, greater than 0, a scalar or one value per
        row; below 1 it flattens them, as a temperature 1 / gamma does.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `ttm`.
    """
    values, weights = _matching(student_logits, teacher_logits, gamma, axis, where)
    return weights * values


def _matching(
    student_logits: Array,
    teacher_logits: Array,
    gamma: ArrayLike,
    axis: int,
    where: Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns KL(t || q) and sum_c p_c^gamma, both [...]."""
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    gamma = positive_option("gamma", gamma, student.shape[:-1])
    log_p = log_softmax(teacher, 1, where)
    # The derivative of gamma * -inf with respect to gamma would be NaN.
    possible = log_p > -jnp.inf
    powers = jnp.where(possible, gamma[..., None] * jnp.where(possible, log_p, 0), -jnp.inf)
    values = kl_divergence(powers, exclude_masked(student, where), None)
    return values, jnp.exp(jax.nn.logsumexp(powers, axis=-1))
