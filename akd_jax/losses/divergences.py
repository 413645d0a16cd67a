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

from akd_jax.losses.class_axis import (
    log_softmax,
    positive_option,
    prepare_pair,
    share_option,
    without_empty_rows,
)
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
      temperature: T > 0, a scalar or one value per row [...].
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: the shapes of the logits differ, the temperature has another shape, a
        concrete temperature is not positive, or the mask does not fit the logits.
    """
    log_p, log_q, factor, _ = log_probabilities(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    return factor * kl_divergence(log_p, log_q)


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
      temperature: T > 0, a scalar or one value per row [...].
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl`.
    """
    log_p, log_q, factor, _ = log_probabilities(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    return factor * kl_divergence(log_q, log_p)


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
      temperature: T > 0, a scalar or one value per row [...].
      beta: the share of the teacher in the mixture, from 0 to 1, a scalar or one value per row.
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl`, or beta has another shape than the rows, or is out of range.
    """
    log_p, log_q, factor, where = log_probabilities(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    beta = share_option("beta", beta, log_p.shape[:-1])
    log_m = log_mixture(log_p, log_q, beta)
    forward = jnp.where(beta == 0, 1, beta) * kl_divergence(log_p, log_m)
    reverse = jnp.where(beta == 1, 1, 1 - beta) * kl_divergence(log_q, log_m)
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
      temperature: T > 0, a scalar or one value per row [...].
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], from 0 to 1.

    Raises:
      ValueError: as `kl`.
    """
    log_p, log_q, _, _ = log_probabilities(
        student_logits, teacher_logits, temperature, False, axis, where
    )
    return jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)).sum(axis=-1) / 2


def kl_divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Returns KL(p || q) = sum_c p_c (exp(d_c) - 1 - d_c), [...], with d = log q - log p.

    It equals sum_c p_c (log p_c - log q_c), since p and q both sum to 1. No term is negative:
    no digits are lost when p and q are nearly equal.
    """
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    # For p = 0 the term p (exp(d) - 1 - d) is q. There d is set to 0: 0 * inf would be NaN.
    possible = ~(p < jnp.finfo(p.dtype).tiny)
    d = jnp.where(possible, log_q, 0) - jnp.where(possible, log_p, 0)
    near = possible & (jnp.abs(d) < 0.1)
    e = jnp.where(near, d, 0)
    series = p * jnp.square(e) * (1 / 2 + e * (1 / 6 + e * (1 / 24 + e * (1 / 120 + e / 720))))
    return jnp.sum(jnp.where(near, series, q - p - p * d), axis=-1)


def log_probabilities(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike,
    scale: bool,
    axis: int,
    where: Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Returns log p and log q [..., C], the factor T^2 or 1 of the rows, and the mask [..., C]."""
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    temperature = positive_option("temperature", temperature, student.shape[:-1])
    log_q, log_p = (log_softmax(z, temperature[..., None], where) for z in (student, teacher))
    return log_p, log_q, temperature**2 if scale else jnp.ones(()), where


def log_mixture(log_p: jax.Array, log_q: jax.Array, share: jax.Array) -> jax.Array:
    """Returns log(share p + (1 - share) q), [..., C]; the share is a scalar or one per row."""
    share = share[..., None]
    a, b = log_p + jnp.log(share), log_q + jnp.log1p(-share)
    # The derivative of logaddexp would be NaN where both are -inf.
    impossible = (a == -jnp.inf) & (b == -jnp.inf)
    mixture = jnp.logaddexp(jnp.where(impossible, 0, a), jnp.where(impossible, 0, b))
    return jnp.where(impossible, -jnp.inf, mixture)
