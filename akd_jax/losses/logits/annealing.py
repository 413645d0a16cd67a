"""The losses of Annealing-KD and Continuation-KD, whose targets grow during the training.

The conventions are those of `akd_jax.losses.logits.divergences`: one value per row, in float32.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import (
    ClassReduction,
    factor_option,
    log_softmax,
    positive_option,
    prepare_pair,
    reduce_classes,
    share_option,
    without_common_infinities,
)
from akd_jax.losses.logits.labels import supervised
from akd_jax.types import Array


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
      where: the classes that count, as for `cross_entropy`. A class whose logit is -inf for both
        student and teacher has the error 0, but it counts in the mean.

    Returns:
      float32 [...], in squared logits.

    Raises:
      ValueError: the shapes of the logits differ, class_reduction is unknown, a concrete factor
        is out of range or has another shape, or the mask does not fit the logits.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    factor = share_option("factor", factor, student.shape[:-1])
    # Masked logits are 0 in both, so that their error is 0.
    student, teacher = without_common_infinities(student, teacher)
    squares = jnp.square(student - factor[..., None] * teacher)
    return reduce_classes(squares, where, class_reduction)


def weighted_annealed_mse(
    student_logits: Array,
    teacher_logits: Array,
    factor: ArrayLike = 1.0,
    temperature: ArrayLike = 1.0,
    *,
    axis: int = -1,
    where: Array | None = None,
) -> jax.Array:
    """Returns sum_c p_c (d_c - sum_k p_k d_k)^2 with d = z_s - Phi z_t and p = softmax(z_t / T).

    This is the variance of the error d under the teacher's probabilities. A class that the teacher
    excludes hardly counts, and neither does the mean of the logits, which a softmax does not see.
    For small errors it is 2 T^2 KL(softmax(z_t / T) || softmax((z_t + d) / T)) to second order. The
    gradient is 2 p_c (d_c - sum_k p_k d_k).

    `annealed_mse` counts all classes alike. With many classes, and a student whose logits have a
    lower rank than their number, most of that error comes from classes that matter little.

    Source: the Fisher information of the softmax as the metric of the logits (Amari, "Natural
    Gradient Works Efficiently in Learning", Neural Computation 1998), with the targets of
    Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163).

    Args:
      student_logits: z_s, [..., C].
      teacher_logits: z_t, [..., C].
      factor: Phi from 0 to 1, a scalar or [...], as for `annealed_mse`.
      temperature: the softmax temperature T > 0 of the weights, a scalar or [...].
      axis: the axis of the classes.
      where: the classes that count, as for `cross_entropy`.

    Returns:
      float32 [...], in squared logits.

    Raises:
      ValueError: the shapes of the logits differ, a concrete factor or temperature is out of range
        or has another shape, or the mask does not fit the logits.
    """
    student, teacher, where = prepare_pair(student_logits, teacher_logits, axis, where)
    factor = share_option("factor", factor, student.shape[:-1])
    temperature = positive_option("temperature", temperature, student.shape[:-1])
    weights = jnp.exp(log_softmax(teacher, temperature[..., None], where))
    # Classes without weight, such as those of logits of -inf, have no error.
    student, teacher = (jnp.where(weights > 0, logits, 0) for logits in (student, teacher))
    errors = student - factor[..., None] * teacher
    means = (weights * errors).sum(axis=-1, keepdims=True)
    return (weights * jnp.square(errors - means)).sum(axis=-1)


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
    factor = share_option("factor", factor, hard.shape)
    psi = share_option("psi", psi, hard.shape)
    margin = factor_option("margin", margin, hard.shape)
    return psi * hard + (1 - psi) * jax.nn.relu(error - margin * factor)
