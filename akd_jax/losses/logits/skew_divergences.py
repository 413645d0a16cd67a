"""The skew divergences of DistiLLM, one value per row.

The conventions and the symbols are those of `akd_jax.losses.logits.divergences`.
"""

import jax
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import share_option, without_empty_rows
from akd_jax.losses.logits.divergences import scaled_logits
from akd_jax.losses.logits.probabilities import kl_divergence
from akd_jax.types import Array


def skew_kl(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 1.0,
    *,
    skew: ArrayLike = 0.1,
    scale: bool = True,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the skew KL divergence of DistiLLM, T^2 KL(p || skew p + (1 - skew) q).

    The share of the teacher in the second distribution bounds the gradient where q is small: the
    value is at most -T^2 log(skew). At skew 0 it is `kl`. The authors' code returns the
    cross-entropy instead of the divergence: its value is larger by the entropy of the teacher, and
    its gradient is the same.

    Source: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML
    2024, https://arxiv.org/abs/2402.03898.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      skew: the share of the teacher in the mixture, from 0 to 1, a scalar or one value per row.
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `kl`, or skew has another shape than the rows, or is out of range.
    """
    student, teacher, factor, where = scaled_logits(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    skew = share_option("skew", skew, student.shape[:-1])
    values = factor * kl_divergence(teacher, student, skew)
    return without_empty_rows(values, where)


def skew_reverse_kl(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 1.0,
    *,
    skew: ArrayLike = 0.1,
    scale: bool = True,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the skew reverse KL divergence of DistiLLM, T^2 KL(q || (1 - skew) p + skew q).

    The value is at most -T^2 log(skew), also for classes that the teacher excludes. At skew 0 it is
    `reverse_kl`.

    Source: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML
    2024, https://arxiv.org/abs/2402.03898.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      skew: the share of the student in the mixture, from 0 to 1, a scalar or one value per row.
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in nats; never negative.

    Raises:
      ValueError: as `skew_kl`.
    """
    student, teacher, factor, where = scaled_logits(
        student_logits, teacher_logits, temperature, scale, axis, where
    )
    skew = share_option("skew", skew, student.shape[:-1])
    values = factor * kl_divergence(student, teacher, skew)
    return without_empty_rows(values, where)
