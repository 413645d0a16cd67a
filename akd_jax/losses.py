"""Losses: pure functions from logits [..., C] to one value per example [...].

A regression has one logit, C = 1, and floating-point labels.

The caller weighs and reduces. Every loss computes in float32 whatever the logits' dtype,
and treats the teacher's logits as constants: no gradient flows into them.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from akd_jax import checks, schedules

ClassReduction = Literal["mean", "sum"]


def cross_entropy(
    student_logits: jax.Array,
    labels: jax.Array | np.ndarray,
    *,
    ignore_index: int | None = None,
) -> jax.Array:
    """Cross-entropy against integer labels: -log softmax(z_s)[label].

    Args:
      student_logits: z_s, [..., C].
      labels: class indices from 0 to C - 1, int [...]. Traced labels out of this range give
        NaN, since their values are unknown while the function is compiled.
      ignore_index: a label, such as -100, that marks masked positions. Their loss and gradient
        are 0. Give these positions weight 0 too: otherwise they still count in a mean.

    Returns:
      float32 [...], in nats.

    Raises:
      ValueError: the labels are not integers, their shape is not that of the logits without
        the class axis, or a label is out of range.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"expected integer labels, got {labels.dtype}")
    if labels.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"expected labels of shape {student_logits.shape[:-1]} for logits of shape"
            f" {student_logits.shape}, got {labels.shape}"
        )
    classes = student_logits.shape[-1]
    checks.check_values(
        "labels",
        labels,
        f"class indices from 0 to {classes - 1}",
        lambda values: ((values >= 0) & (values < classes)) | (values == ignore_index),
        "mark masked positions with ignore_index",
    )
    labels = jnp.asarray(labels, jnp.int32)
    ignored = jnp.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    known = ((labels >= 0) & (labels < classes)) | ignored
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(
        student_logits.astype(jnp.float32), jnp.clip(labels, 0, classes - 1)
    )
    # The product makes the gradient NaN too: an unknown label must not train the network.
    return jnp.where(ignored, 0, loss) * jnp.where(known, 1, jnp.nan)


def squared_error(student_logits: jax.Array, labels: jax.Array | np.ndarray) -> jax.Array:
    """Squared error of a regression: (z_s - label)^2.

    Args:
      student_logits: z_s, [..., 1].
      labels: what z_s should be, floating [...].

    Returns:
      float32 [...], in squared units of the labels.

    Raises:
      ValueError: the shapes are others. [B, 1] against [B] would broadcast to [B, B]
        without a word.
    """
    if student_logits.shape != (*labels.shape, 1):
        raise ValueError(
            f"expected logits of shape {(*labels.shape, 1)} for labels of shape {labels.shape},"
            f" got {student_logits.shape}"
        )
    return jnp.square(student_logits[..., 0].astype(jnp.float32) - labels.astype(jnp.float32))


def supervised(
    student_logits: jax.Array,
    labels: jax.Array | np.ndarray,
    *,
    ignore_index: int | None = None,
) -> jax.Array:
    """The loss against the labels: `squared_error` for floating ones, else `cross_entropy`.

    Args:
      student_logits: z_s, [..., C].
      labels: class indices, int [...]; or the numbers of a regression, floating [...].
      ignore_index: as for `cross_entropy`; a regression does not use it.

    Returns:
      float32 [...].

    Raises:
      ValueError: as either of the two.
    """
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return squared_error(student_logits, labels)
    return cross_entropy(student_logits, labels, ignore_index=ignore_index)


def distillation_kl(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: ArrayLike
) -> jax.Array:
    """Soft-label loss of vanilla KD: T^2 KL(softmax(z_t / T) || softmax(z_s / T)).

    The factor T^2 keeps the gradient's size independent of T, so that the weight between
    this and the hard-label loss means the same at every temperature (Hinton et al., 2015,
    https://arxiv.org/abs/1503.02531).

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: T > 0, a scalar or one value per row [...].

    Returns:
      float32 [...], in nats.

    Raises:
      ValueError: the logits' shapes differ.
    """
    student_logits, teacher_logits = _logits(student_logits, teacher_logits)
    checks.check_values("temperature", temperature, "values greater than 0", lambda t: t > 0)
    temperature = checks.scalar_or_per_row("temperature", temperature, student_logits.shape[:-1])
    divisor = _expand(temperature)
    divergence = _kl_divergence(
        _log_softmax(teacher_logits, divisor), _log_softmax(student_logits, divisor)
    )
    return temperature**2 * divergence


def annealed_mse(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature_step: ArrayLike,
    max_temperature: ArrayLike,
    *,
    class_reduction: ClassReduction = "mean",
) -> jax.Array:
    """Stage I of Annealing-KD: mean over classes of (z_s - Phi(T) z_t)^2.

    The paper's formula is the squared norm, a sum over classes; the authors' code takes
    the mean, which is the default here and what their learning rates were found with.
    The two differ by the factor C. The gradient of the mean is 2 (z_s - Phi z_t) / C.

    Source: Jafari et al., "Annealing Knowledge Distillation", EACL 2021,
    https://arxiv.org/abs/2104.07163.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature_step: k, an int scalar or [...]; Phi = (k + 1) / max_temperature.
      max_temperature: tau_max, at least 1.
      class_reduction: 'mean' or 'sum' over the classes.

    Returns:
      float32 [...], in squared logits.

    Raises:
      ValueError: the logits' shapes differ, or class_reduction is neither of the two.
    """
    if class_reduction not in ("mean", "sum"):
        raise ValueError(f"expected class_reduction 'mean' or 'sum', got {class_reduction!r}")
    student_logits, teacher_logits = _logits(student_logits, teacher_logits)
    factor = _annealing_factor(temperature_step, max_temperature, student_logits.shape[:-1])
    squares = jnp.square(student_logits - _expand(factor) * teacher_logits)
    return squares.mean(axis=-1) if class_reduction == "mean" else squares.sum(axis=-1)


def continuation(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array | np.ndarray,
    temperature_step: ArrayLike,
    max_temperature: ArrayLike,
    *,
    psi: ArrayLike,
    margin: ArrayLike,
    class_reduction: ClassReduction = "mean",
) -> jax.Array:
    """Continuation-KD: psi S(z_s, label) + (1 - psi) max(0, E - margin Phi(T)).

    S is `supervised`, in the paper the cross-entropy; E is `annealed_mse`. An error within the
    margin, which grows with Phi, costs nothing.
    With psi 0 and margin 0 this is stage I of Annealing-KD, with psi 1 its stage II. In the
    paper E is the sum over classes: there the margin is C times that of the mean.

    Source: Jafari et al., "Continuation KD", Findings of EMNLP 2022,
    https://arxiv.org/abs/2212.05998.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      labels: class indices from 0 to C - 1, int [...]; or floating ones of a regression.
      temperature_step: k, an int scalar or [...]; Phi = (k + 1) / max_temperature.
      max_temperature: tau_max, at least 1.
      psi: weight of the hard labels from 0 to 1, a scalar or [...].
      margin: m >= 0, in squared logits.
      class_reduction: 'mean' or 'sum' over the classes.

    Returns:
      float32 [...].

    Raises:
      ValueError: as `annealed_mse` and `supervised`.
    """
    hard = supervised(student_logits, labels)
    error = annealed_mse(
        student_logits,
        teacher_logits,
        temperature_step,
        max_temperature,
        class_reduction=class_reduction,
    )
    rows = student_logits.shape[:-1]
    factor = _annealing_factor(temperature_step, max_temperature, rows)
    checks.check_values("psi", psi, "values from 0 to 1", lambda w: (w >= 0) & (w <= 1))
    psi = checks.scalar_or_per_row("psi", psi, rows)
    margin = checks.scalar_or_per_row("margin", margin, rows)
    return psi * hard + (1 - psi) * jax.nn.relu(error - margin * factor)


def _logits(student_logits: jax.Array, teacher_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in float32, the teacher's cut from the gradient; equal shapes, since (B, 1) against
    (B,) would broadcast to (B, B) without a word.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"expected teacher logits of the student's shape {student_logits.shape},"
            f" got {teacher_logits.shape}"
        )
    return (
        student_logits.astype(jnp.float32),
        jax.lax.stop_gradient(teacher_logits.astype(jnp.float32)),
    )


def _annealing_factor(
    temperature_step: ArrayLike, max_temperature: ArrayLike, rows: tuple[int, ...]
) -> jax.Array:
    factor = schedules.annealing_factor(temperature_step, max_temperature)
    return checks.scalar_or_per_row("temperature_step", factor, rows)


def _expand(value: jax.Array) -> jax.Array:
    """Adds the class axis to a value per row, so that it broadcasts against the logits."""
    return value[..., None] if value.ndim else value


def _log_softmax(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """Returns log softmax(logits / T), with -inf for classes whose logit is -inf."""
    excluded = logits == -jnp.inf
    # An infinite quotient must not depend on T: its derivative with respect to T would be NaN.
    infinite = logits / jax.lax.stop_gradient(temperature)
    finite = jnp.where(excluded, 0, logits) / temperature
    return jax.nn.log_softmax(jnp.where(excluded, infinite, finite))


def _kl_divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Returns KL(p || q) = sum_c p_c (exp(d_c) - 1 - d_c), [...], with d = log q - log p.

    The form equals sum_c p_c (log p_c - log q_c), because p and q both sum to 1. No term is
    negative, so that no digits are lost when p and q are nearly equal.
    """
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    # For p = 0 the term p (exp(d) - 1 - d) is q. There d is set to 0: 0 * inf would be NaN.
    possible = ~(p < jnp.finfo(p.dtype).tiny)
    d = jnp.where(possible, log_q, 0) - jnp.where(possible, log_p, 0)
    near = possible & (jnp.abs(d) < 0.1)
    e = jnp.where(near, d, 0)
    series = p * jnp.square(e) * (1 / 2 + e * (1 / 6 + e * (1 / 24 + e * (1 / 120 + e / 720))))
    return jnp.sum(jnp.where(near, series, q - p - p * d), axis=-1)
