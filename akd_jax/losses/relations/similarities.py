"""Losses of relations: similarities between the examples of a batch. Those of RKD are in `rkd`.

Each function takes features [B, ...] of B examples, which are flattened per example, and returns
one value per example. Student and teacher may have different widths. For texts, give one vector
per example, such as 'pooled': tokens [B, L, D] would be flattened together with their padding.

A published loss is a mean over pairs or triples of the examples of a batch. A value is the part of
its first example, so that sum_i w_i v_i / sum_i w_i, which a training step computes, is the
published loss of the examples of weight > 0, if the weights w are 0 or 1. Other weights count
examples: 2 is the same as two copies. With `axis_name`, the batch is that of all devices: each
device compares its examples with all others. With accumulated gradients, the batch is one part.

The weight of a loss depends on its form. The weights below are those of RepDistiller's comparison,
next to a cross-entropy of weight 1 (Tian et al., "Contrastive Representation Distillation", ICLR
2020, https://arxiv.org/abs/1910.10699).
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, layer_names, value_weights
from akd_jax.losses.rows import divide, flatten, gather_rows, prepare_rows, unit_rows, weighted_mean
from akd_jax.types import Array, Batch, Clock, Outputs, Term

_PKT_EPSILON = 1e-7


def sp(
    student_features: Array,
    teacher_features: Array,
    *,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the squared difference of the similarity matrices of student and teacher (SP).

        G = F F^T with rows of norm 1        loss = ||G_s - G_t||^2 / B^2

    The mean of the values is this loss: v_i = mean over j of (G_s - G_t)_ij^2. It is
    invariant to rotation and scaling of the features. The usual weight is 3000, with the
    last group of a convolutional network.

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
    https://arxiv.org/abs/1907.09682.

    Args:
      student_features: F_s, [B, ...].
      teacher_features: F_t, [B, ...].
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the features or the weights are not of the same examples.
    """
    student, teacher, weights = prepare_rows(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather_rows((student, teacher, weights), axis_name)

    def similarities(rows: jax.Array, columns: jax.Array) -> jax.Array:
        return unit_rows(_products(rows, columns), all_weights)

    difference = similarities(student, all_student) - similarities(teacher, all_teacher)
    return weighted_mean(jnp.square(difference), all_weights)


def pkt(
    student_features: Array,
    teacher_features: Array,
    *,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the divergence of the probabilities with which examples are neighbours (PKT).

        s_ij = (cos(f_i, f_j) + 1) / 2        p_ij = s_ij / sum_j s_ij
        loss = mean over i and j of p_ij log((p_ij + 1e-7) / (q_ij + 1e-7))

    p belongs to the teacher and q to the student. The sum over j includes j = i. The mean of the
    values is this loss: v_i is the mean over j. It is invariant to rotation and scaling
    of the features. The mean over j makes it B times smaller than a sum of the
    divergences KL(p_i || q_i) would be; for this reason the usual weight is 30000, with pooled
    features.

    Source: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge
    Transfer", ECCV 2018, https://arxiv.org/abs/1803.10837.

    Args:
      student_features: f of the student, [B, ...].
      teacher_features: f of the teacher, [B, ...].
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B], in nats.

    Raises:
      ValueError: the features or the weights are not of the same examples.
    """
    student, teacher, weights = prepare_rows(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather_rows((student, teacher, weights), axis_name)

    def probabilities(rows: jax.Array, columns: jax.Array) -> jax.Array:
        similarities = (_products(unit_rows(rows), unit_rows(columns)) + 1) / 2
        similarities = jnp.maximum(similarities, 0)  # Rounding can give a cosine below -1.
        return divide(similarities, (similarities * all_weights).sum(axis=-1, keepdims=True))

    p, q = probabilities(teacher, all_teacher), probabilities(student, all_student)
    terms = p * (jnp.log(p + _PKT_EPSILON) - jnp.log(q + _PKT_EPSILON))
    return weighted_mean(terms, all_weights)


def correlation_congruence(
    student_features: Array,
    teacher_features: Array,
    *,
    gamma: float = 0.4,
    order: int = 2,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the squared difference of the kernel matrices of student and teacher (CC).

        K_ij = exp(-2 gamma) sum_{p <= order} (2 gamma x_i . x_j)^p / p!
        loss = ||K_s - K_t||^2 / B^2

    x are the features divided by their norms. K is the Taylor series of the Gaussian kernel
    exp(-gamma ||x_i - x_j||^2). The mean of the values is this loss: v_i is the mean over j. It is
    invariant to rotation and scaling of the features.

    This is the form of the paper. The weight is 100 in the commands of the public code
    "Knowledge-Distillation-Zoo", which has the same form. RepDistiller's "correlation" is another
    loss, the product of the errors of consecutive examples, which depends on their order; its
    weight 0.02 does not fit here. torchdistill takes the norm instead of its square.

    Source: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019,
    https://arxiv.org/abs/1904.01802.

    Args:
      student_features: features of the student, [B, ...].
      teacher_features: features of the teacher, [B, ...].
      gamma: the inverse squared width of the Gaussian kernel, above 0.
      order: the highest power in the series of the kernel, at least 1.
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the features or the weights are not of the same examples, or gamma or order is out
        of range.
    """
    checks.check_values(
        "gamma", gamma, "finite values greater than 0", lambda g: (g > 0) & (g < jnp.inf)
    )
    checks.check_values("order", order, "values of at least 1", lambda p: p >= 1)
    student, teacher, weights = prepare_rows(student_features, teacher_features, weights)
    all_student, all_teacher, all_weights = gather_rows((student, teacher, weights), axis_name)

    def kernel(rows: jax.Array, columns: jax.Array) -> jax.Array:
        x = 2 * gamma * _products(unit_rows(rows), unit_rows(columns))
        series = jnp.ones_like(x)
        for power in range(order, 0, -1):
            series = 1 + x / power * series
        return jnp.exp(jnp.float32(-2 * gamma)) * series

    difference = kernel(student, all_student) - kernel(teacher, all_teacher)
    return weighted_mean(jnp.square(difference), all_weights)


class CC(nn.Module):
    """The loss `correlation_congruence` of a trained linear embedding of the student's features.

    The teacher's features are compared as they are; the kernel needs no common width. The
    published codes also train an embedding of the teacher. That loss can reach 0 without a change
    of the student, when both embeddings map all examples to one point. `losses.bind` with
    `losses.correlation_congruence` is the loss without an embedding.

    Source: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019,
    https://arxiv.org/abs/1904.01802.

    Attributes:
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      width: the width of the embedding of the student's features.
      gamma: the inverse squared width of the Gaussian kernel, above 0.
      order: the highest power in the series of the kernel, at least 1.
      teacher: the name of the teacher.

    Raises:
      ValueError: as `correlation_congruence`, when it is called.
    """

    layers: Layers = "pooled"
    width: int = 128
    gamma: float = 0.4
    order: int = 2
    teacher: str = "teacher"

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
        """Returns one term, a value per example [B]."""
        del clock
        student_layer, teacher_layer = layer_names(self.layers)
        values = correlation_congruence(
            nn.Dense(self.width, name="student")(flatten(student.features[student_layer])),
            teachers[self.teacher].features[teacher_layer],
            gamma=self.gamma,
            order=self.order,
            weights=batch.weights,
            axis_name=axis_name,
        )
        return {UNNAMED: Term(values, value_weights(values, student, batch))}


def _products(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns the inner products of rows [R, D] and columns [C, D], [R, C]."""
    return jnp.einsum("id,jd->ij", rows, columns, precision=jax.lax.Precision.HIGHEST)
