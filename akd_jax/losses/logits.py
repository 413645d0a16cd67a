"""Losses against a teacher's logits: pure functions that return one value per row.

A row is an example of a batch or a token of a text. Logits have the shape [..., C]: rows [...]
and C classes, on the last axis unless `axis` names another one. A regression has one logit,
C = 1, and floating-point labels. The caller multiplies the values by the weights of the rows
and reduces them. All losses compute in float32. The teacher's logits get no gradient.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax import checks
from akd_jax.losses.class_axis import log_softmax, prepare_pair
from akd_jax.losses.labels import supervised
from akd_jax.types import Array

ClassReduction = Literal["mean", "sum"]


def kl(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike,
    *,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the KD loss T^2 KL(softmax(z_t / T) || softmax(z_s / T)).

    The factor T^2 keeps the size of the gradient independent of T, so that the weight of this
    loss has the same meaning at every temperature.

    Logits may be -inf. A class that the teacher excludes has probability 0 and contributes 0;
    a class that only the student excludes gives +inf. All gradients are finite.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: T > 0, a scalar or one value per row [...].
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: the shapes of the logits differ, the temperature has another shape, a
        concrete temperature is not positive, or the mask does not fit the logits.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    checks.check_values("temperature", temperature, "values greater than 0", lambda t: t > 0)
    temperature = checks.scalar_or_per_row("temperature", temperature, student.shape[:-1])
    divisor = temperature[..., None]
    divergence = kl_divergence(
        log_softmax(teacher, divisor, where), log_softmax(student, divisor, where)
    )
    return temperature**2 * divergence


def annealed_mse(
    student_logits: Array,
    teacher_logits: Array,
    factor: ArrayLike = 1.0,
    *,
    class_reduction: ClassReduction = "mean",
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the loss of Annealing-KD's stage I: mean over the classes of (z_s - Phi(T) z_t)^2.

    The paper's formula is the squared norm, a sum over the classes. The authors' code takes
    the mean, which is C times smaller; their learning rates belong to the mean. The gradient
    of the mean is 2 (z_s - Phi z_t) / C.

    Source: Jafari et al., "Annealing Knowledge Distillation", EACL 2021,
    https://arxiv.org/abs/2104.07163.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      factor: Phi from 0 to 1, a scalar or [...], such as the value of
        `schedules.annealing_factor`; 1 for the teacher's logits as they are.
      class_reduction: 'mean' or 'sum' over the classes that count.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in squared logits.

    Raises:
      ValueError: the shapes of the logits differ, class_reduction is unknown, a concrete factor
        is out of range or has another shape, or the mask does not fit the logits.
    """
    if class_reduction not in ("mean", "sum"):
        raise ValueError(f"class_reduction: expected 'mean' or 'sum', got {class_reduction!r}")
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    factor = _annealing_factor(factor, student.shape[:-1])
    # Masked logits are 0 in both, so that their error is 0.
    squares = jnp.square(student - factor[..., None] * teacher)
    if class_reduction == "sum":
        return squares.sum(axis=-1)
    if where is None:
        return squares.mean(axis=-1)
    return squares.sum(axis=-1) / jnp.maximum(where.sum(axis=-1, dtype=jnp.float32), 1)


def continuation(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    factor: ArrayLike,
    *,
    psi: ArrayLike,
    margin: ArrayLike,
    class_reduction: ClassReduction = "mean",
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Returns the Continuation-KD loss psi S(z_s, label) + (1 - psi) max(0, E - margin Phi(T)).

    S is `supervised`: the cross-entropy in the paper. E is `annealed_mse`. An error E within
    the margin, which grows with Phi, gives no loss. With margin 0 this is Annealing-KD: psi 0
    gives its stage I, and psi 1 its stage II. In the paper E is the sum over the classes, and
    the margin is C times the margin of the mean.

    Source: Jafari et al., "Continuation KD", Findings of EMNLP 2022,
    https://arxiv.org/abs/2212.05998.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      labels: class indices, int [...]; or the target numbers of a regression, floating [...].
      factor: Phi, as for `annealed_mse`.
      psi: the weight of the hard labels, from 0 to 1, a scalar or [...].
      margin: m >= 0, in squared logits, a scalar or [...].
      class_reduction: 'mean' or 'sum' over the classes that count.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.
      ignore_index: as for `cross_entropy`; it sets S to 0, but not E.

    Returns:
      float32 [...].

    Raises:
      ValueError: as `annealed_mse` and `supervised`, or psi or margin has another shape than
        the rows, or a concrete psi or margin is out of range.
    """
    hard = supervised(student_logits, labels, axis=axis, where=where, ignore_index=ignore_index)
    error = annealed_mse(
        student_logits,
        teacher_logits,
        factor,
        class_reduction=class_reduction,
        axis=axis,
        where=where,
    )
    factor = _annealing_factor(factor, hard.shape)
    checks.check_values("psi", psi, "values from 0 to 1", lambda w: (w >= 0) & (w <= 1))
    checks.check_values("margin", margin, "values of at least 0", lambda m: m >= 0)
    psi = checks.scalar_or_per_row("psi", psi, hard.shape)
    margin = checks.scalar_or_per_row("margin", margin, hard.shape)
    return psi * hard + (1 - psi) * jax.nn.relu(error - margin * factor)


def _annealing_factor(factor: ArrayLike, rows: tuple[int, ...]) -> jax.Array:
    """Checks Phi and returns it as a scalar or as one value per row."""
    checks.check_values("factor", factor, "values from 0 to 1", lambda f: (f >= 0) & (f <= 1))
    return checks.scalar_or_per_row("factor", factor, rows)


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
