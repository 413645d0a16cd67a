"""Divergences between the probabilities of a teacher and of a student, one value per row.

A row is an example of a batch or a token of a text. Logits have the shape [..., C]: rows [...]
and C classes, on the last axis unless `axis` names another one. A regression has one logit,
C = 1, and floating-point labels. The caller multiplies the values by the weights of the rows
and reduces them. All losses compute in float32. The teacher's logits get no gradient.

In the formulas, p = softmax(z_t / T) are the teacher's probabilities and q = softmax(z_s / T) the
student's. The factor T^2 keeps the size of the gradient independent of T, so that the weight of a
loss has the same meaning at every temperature. Libraries for language models leave it out; set
scale=False to compare with them.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import (
    exclude_masked,
    positive_option,
    prepare_pair,
    share_option,
    soften,
    without_empty_rows,
)
from akd_jax.losses.logits.probabilities import kl_divergence
from akd_jax.types import Array


def kl(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 4.0,
    *,
    scale: bool = True,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the KD loss T^2 KL(p || q), with p = softmax(z_t / T) and q = softmax(z_s / T).

    The usual weight is 0.9, next to a cross-entropy of weight 0.1.

    Logits may be -inf. A class that the teacher excludes has probability 0 and contributes 0;
    a class that only the student excludes gives +inf. All gradients are finite.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: the shapes of the logits differ, the temperature has another shape, a
        concrete temperature is not positive, or the mask does not fit the logits.
    """
    student, teacher, factor, _ = scaled_logits(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    return factor * kl_divergence(teacher, student, None)


def reverse_kl(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 1.0,
    *,
    scale: bool = True,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns T^2 KL(q || p), the divergence of `kl` with student and teacher exchanged.

    It punishes a student that gives probability to classes that are unlikely for the teacher. A
    student that cannot match all classes then keeps to a few likely ones, where `kl` spreads.

    A class that only the teacher excludes gives +inf, and a gradient that is not finite: exclude it
    with `where`, or use `skew_reverse_kl`.

    Source: Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024,
    https://arxiv.org/abs/2306.08543. There it is an expectation over texts that the student
    generates; this is the divergence of a single token.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl`.
    """
    student, teacher, factor, _ = scaled_logits(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    return factor * kl_divergence(student, teacher, None)


def generalized_jsd(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 1.0,
    *,
    beta: ArrayLike = 0.5,
    scale: bool = True,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the generalised Jensen-Shannon divergence of GKD, between `kl` and `reverse_kl`.

        m = beta p + (1 - beta) q      value = T^2 (beta KL(p || m) + (1 - beta) KL(q || m))

    At beta 0 the value is `kl`, and at beta 1 `reverse_kl`, as in the library trl. These are the
    limits of the formula divided by beta, or by 1 - beta; the formula itself falls to 0. At beta
    0.5 the value is symmetric and at most T^2 log 2.

    Source: Agarwal et al., "On-Policy Distillation of Language Models: Learning from
    Self-Generated Mistakes", ICLR 2024, https://arxiv.org/abs/2306.13649.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      beta: the share of the teacher in the mixture, from 0 to 1, a scalar or one value per row.
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl`, or beta has another shape than the rows, or is out of range.
    """
    student, teacher, factor, where = scaled_logits(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    beta = share_option("beta", beta, student.shape[:-1])
    forward = jnp.where(beta == 0, 1, beta) * kl_divergence(teacher, student, beta)
    reverse = jnp.where(beta == 1, 1, 1 - beta) * kl_divergence(student, teacher, 1 - beta)
    return without_empty_rows(factor * (forward + reverse), where)


def total_variation(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 1.0,
    *,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the total variation distance 1/2 sum_c |p_c - q_c|.

    Source: Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL
    2023, https://arxiv.org/abs/2307.15190.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], from 0 to 1.

    Raises:
      ValueError: as `kl`.
    """
    student, teacher, _, _ = scaled_logits(
        student_logits, teacher_logits, temperature, False, axis, where
    )
    return jnp.abs(jax.nn.softmax(teacher) - jax.nn.softmax(student)).sum(axis=-1) / 2


def scaled_logits(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike,
    scale: bool,
    axis: int,
    where: Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Returns z_s / T and z_t / T [..., C], T^2 or 1 for the rows, and the mask [..., C]."""
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    temperature = positive_option("temperature", temperature, student.shape[:-1])
    student, teacher = (
        exclude_masked(soften(z, temperature[..., None]), where) for z in (student, teacher)
    )
    return student, teacher, temperature**2 if scale else jnp.ones(()), where
