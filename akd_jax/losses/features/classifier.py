"""Losses that prepare a student for the teacher's classifier, its last layer: SimKD and SRRL."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import Layers, value_weights
from akd_jax.losses.features.distances import feature_mse
from akd_jax.losses.features.preparation import as_map, pool_to_smaller, prepare_features, read_pair
from akd_jax.losses.features.projectors import batch_norm
from akd_jax.types import Array, Batch, Clock, Head, Outputs, Term


def simkd(student_features: Array, teacher_features: Array) -> jax.Array:
    """Returns the error of the maps that a student transfers to the teacher's classifier (SimKD).

        value = mean (F_s - F_t)^2

    If the maps differ in size, the larger map is average-pooled to the size of the smaller one. It
    is the loss of the method simkd, which by default has no other term. Its student,
    `akd_jax.models.simkd.SimKD`, returns F_s as the feature 'transferred', and predicts with the
    teacher's classifier.

    Source: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    https://arxiv.org/abs/2203.14001.

    Args:
      student_features: F_s, the transferred maps [B, H, W, C].
      teacher_features: F_t, the teacher's last maps [B, H', W', C].

    Returns:
      float32 [B].

    Raises:
      ValueError: the features are not maps with the same number of channels.
    """
    student, teacher = prepare_features(student_features, teacher_features)
    if not student.ndim == teacher.ndim == 4 or student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            "simkd: expected maps [B, H, W, C] of student and teacher with the same channels, got"
            f" shapes {student.shape} and {teacher.shape}; give the student the channels of the"
            " teacher's last map"
        )
    return feature_mse(*pool_to_smaller(student, teacher))


class SRRL(nn.Module):
    """The error of projected features, and of the logits that the teacher's classifier gives them.

        x = mean over pixels of relu(batch norm(conv1x1(F_s)))
        loss = alpha mean_d (x - F_t)_d^2 + beta mean_c (W_t x + b_t - z_t)_c^2

    F_t is the input of the teacher's classifier with the weights W_t and b_t, and z_t are the
    teacher's logits. The classifier is not trained. The term 'features' has the scale alpha, and
    'classifier' the scale beta. The published weights are 1 and 5 for CIFAR, and 1 and 1 for
    ImageNet, next to a cross-entropy of weight 1.

    The authors' code projects the student's last map: layers=("group_3", "pooled"). The later
    comparison of SimKD's authors projects its mean, as the default does.

    The parameters are trained with the student and belong to the loss. The batch norm always uses
    the statistics of the batch, over all devices.

    Source: Yang et al., "Knowledge Distillation via Softmax Regression Representation Learning",
    ICLR 2021, https://openreview.net/forum?id=ZzwDy_wiWv.

    Attributes:
      layers: the student's feature, maps [B, H, W, C] or vectors [B, D], and the teacher's: the
        input of its classifier, or a map whose mean over the pixels is this input. One name stands
        for both.
      teacher: the name of the teacher; it runs in the training step.
      alpha: the scale of the error of the features, at least 0.
      beta: the scale of the error of the logits, at least 0.
    """

    layers: Layers = "pooled"
    teacher: str = "teacher"
    alpha: float = 1.0
    beta: float = 5.0

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
        """Returns the terms 'features' and 'classifier': values per example [B].

        Raises:
          ValueError: the teacher's outputs are stored, a feature does not fit, or an option is out
            of range.
        """
        del clock
        for name in ("alpha", "beta"):
            checks.check_values(name, getattr(self, name), "at least 0", lambda x: x >= 0)
        teacher = teachers[self.teacher]
        head = _live_head(teacher)
        features, target = map(as_map, read_pair(self.layers, student, teacher))
        target = target.mean(axis=(1, 2))
        width = head.kernel.shape[0]
        if target.shape[-1] != width:
            raise ValueError(
                f"SRRL: expected a feature of the teacher with the {width} elements that its"
                f" classifier reads, got {target.shape[-1]}; use 'pooled'"
            )
        x = nn.Conv(width, (1, 1), use_bias=False)(features)
        x = nn.relu(batch_norm(axis_name)(x)).mean(axis=(1, 2))
        logits = x @ head.kernel + head.bias
        values = feature_mse(x, target)
        weights = value_weights(values, student, batch)
        return {
            "features": Term(values, weights, self.alpha),
            "classifier": Term(feature_mse(logits, teacher.logits), weights, self.beta),
        }


def _live_head(teacher: Outputs) -> Head:
    """Returns the last layer of a teacher in float32, without a gradient.

    Raises:
      ValueError: the outputs do not have it.
    """
    if teacher.head is None:
        raise ValueError(
            "SRRL: expected the teacher's last layer, which stored outputs do not have, got"
            " none; set config.teacher.views to 0 to run the teacher in every step"
        )
    head = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), teacher.head)
    return jax.lax.stop_gradient(head)
