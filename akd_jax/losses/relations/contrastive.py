"""Contrastive losses: the features of an example in student and teacher, against other examples.

`crd_in_batch` and `InBatchCRD` compare an example with the others of its batch, `CRD` with a memory
of all training examples. Features [B, ...] are flattened per example. For texts, give one vector
per example, such as 'pooled'.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, layer_names, value_weights
from akd_jax.losses.rows import flatten, gather_rows, prepare_rows, unit_rows
from akd_jax.types import Array, Batch, Clock, Outputs, Term


def crd_in_batch(
    student_features: Array,
    teacher_features: Array,
    *,
    temperature: float = 0.07,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the contrastive loss between student and teacher within a batch (InfoNCE).

        l_ij = x_i . y_j / T
        v_i = - (log softmax_j(l_ij) + log softmax_j(l_ji))_{j = i} / 2

    x and y are the features of student and teacher, divided by their norms. The two parts compare
    the student's example with all examples of the teacher, and the teacher's example with all
    examples of the student. Other examples of the same class count as different. As in the losses
    of `akd_jax.losses.relations.similarities`, weights count examples, and with `axis_name` the
    batch is that of all devices.

    This is the objective of contrastive representation distillation (CRD) with the examples of a
    batch instead of a memory; see `CRD`.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    https://arxiv.org/abs/1807.03748; Tian et al., "Contrastive Representation Distillation", ICLR
    2020, https://arxiv.org/abs/1910.10699.

    Args:
      student_features: features of the student, [B, ...].
      teacher_features: features of the teacher, of the same width.
      temperature: T, the divisor of the cosines of the features, above 0.
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B], in nats; log B if the features of all examples are equal.

    Raises:
      ValueError: the features differ in width, they or the weights are not of the same examples, or
        the temperature is not positive.
    """
    student, teacher, weights = prepare_rows(student_features, teacher_features, weights)
    if student.shape != teacher.shape:
        raise ValueError(
            f"teacher_features: expected the student's width {student.shape[1]}, got"
            f" {teacher.shape[1]}; use InBatchCRD, which projects both"
        )
    return _info_nce(unit_rows(student), unit_rows(teacher), weights, temperature, axis_name)


class InBatchCRD(nn.Module):
    """The loss `crd_in_batch` of trained linear projections of student and teacher.

    The projection of the teacher is trained too, as in CRD. It does not collapse, since the loss of
    equal projections is log B. The usual weight of `CRD` is 0.8.

    Source: Tian et al., "Contrastive Representation Distillation", ICLR 2020,
    https://arxiv.org/abs/1910.10699, with the examples of the batch as the negatives.

    Attributes:
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      width: the width of both projections.
      temperature: T, the divisor of the cosines of the features, above 0.
      teacher: the name of the teacher.

    Raises:
      ValueError: as `crd_in_batch`, when it is called.
    """

    layers: Layers = "pooled"
    width: int = 128
    temperature: float = 0.07
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
        rows = prepare_rows(
            student.features[student_layer],
            teachers[self.teacher].features[teacher_layer],
            batch.weights,
        )
        projected = Projections(self.width, name="projections")(*rows[:2])
        values = _info_nce(*projected, rows[2], self.temperature, axis_name)
        return {UNNAMED: Term(values, value_weights(values, student, batch))}


class Projections(nn.Module):
    """Linear projections of the features of student and teacher to rows of one width and norm 1.

    Attributes:
      width: the width of both.
    """

    width: int

    @nn.compact
    def __call__(self, student: Array, teacher: Array) -> tuple[jax.Array, jax.Array]:
        """Returns the projections [B, width]; the teacher's features get no gradient."""
        return (
            unit_rows(nn.Dense(self.width, name="student")(flatten(student))),
            unit_rows(
                nn.Dense(self.width, name="teacher")(jax.lax.stop_gradient(flatten(teacher)))
            ),
        )


def _info_nce(
    student: jax.Array,
    teacher: jax.Array,
    weights: jax.Array,
    temperature: float,
    axis_name: str | None,
) -> jax.Array:
    """Returns the values of `crd_in_batch` for rows [B, D] of norm 1; both get a gradient."""
    checks.check_values("temperature", temperature, "values greater than 0", lambda t: t > 0)
    all_student, all_teacher, all_weights = gather_rows((student, teacher, weights), axis_name)
    counts = all_weights > 0
    # Examples of weight 0 are left out. If all are, none is, to avoid NaN.
    log_counts = jnp.where(counts, jnp.log(jnp.where(counts, all_weights, 1)), -jnp.inf)
    log_counts = jnp.where(counts.any(), log_counts, 0)

    def log_sum(anchors: jax.Array, candidates: jax.Array) -> jax.Array:
        cosines = jnp.matmul(anchors, candidates.T, precision=jax.lax.Precision.HIGHEST)
        return jax.nn.logsumexp(cosines / temperature + log_counts, axis=-1)

    own = (student * teacher).sum(axis=-1) / temperature
    values = (log_sum(student, all_teacher) + log_sum(teacher, all_student)) / 2 - own
    return jnp.where(counts.any(), values, 0)
