"""Errors of the logits themselves, without a softmax.

The conventions are those of `akd_jax.losses.logits.divergences`: one value per row, in float32.
"""

import jax
import jax.numpy as jnp

from akd_jax.losses.logits.class_axis import (
    ClassReduction,
    prepare_pair,
    reduce_classes,
    without_common_infinities,
)
from akd_jax.types import Array


def absolute_error(
    student_logits: Array,
    teacher_logits: Array,
    *,
    class_reduction: ClassReduction = "sum",
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns the L1 distance of the logits of student and teacher: sum over c of |z_s - z_t|.

    The gradient is the sign of z_s - z_t, and 0 where both are equal.

    The textual distillation of Kim et al. adds it to the cross-entropy, with weight 1, as a sum
    over 31 classes. The sum grows with the number of classes and with the scale of the teacher's
    logits: for other tasks, search its weight, or take the mean.

    Source: Kim et al., "Two-stage Textual Knowledge Distillation for End-to-End Spoken Language
    Understanding", ICASSP 2021, https://arxiv.org/abs/2010.13105.

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      class_reduction: 'sum' or 'mean' over the classes that count.
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`. A class whose logit is -inf for both
        student and teacher has the error 0, but it counts in the mean.

    Returns:
      float32 [...], in logits.

    Raises:
      ValueError: the shapes of the logits differ, class_reduction is unknown, or the mask does not
        fit the logits.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    # Masked logits are 0 in both, so that their error is 0.
    student, teacher = without_common_infinities(student, teacher)
    difference = student - teacher
    # The gradient at 0 is 0, as in PyTorch; that of `jnp.abs` is 1.
    return reduce_classes(difference * jnp.sign(difference), where, class_reduction)
