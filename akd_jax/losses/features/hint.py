"""FitNets' hint: the student's features, projected by a trained layer, against the teacher's."""

from collections.abc import Mapping

import flax.linen as nn

from akd_jax.losses.binding import UNNAMED, Layers, value_weights
from akd_jax.losses.features.distances import feature_mse
from akd_jax.losses.features.preparation import read_pair
from akd_jax.losses.features.projectors import batch_norm, projector
from akd_jax.types import Batch, Clock, Outputs, Term


class Hint(nn.Module):
    """FitNets' hint: the error of the student's features after a trained projection.

        value = mean (r(F_s) - F_t)^2

    The mean is that of `feature_mse`. r is the layer that `projector` chooses for the two shapes:
    a convolution for maps, and a dense layer for vectors and tokens. As in the published comparison
    of RepDistiller, whose weight is 100 next to a cross-entropy of weight 1, batch norm and ReLU
    follow the convolution. A ReLU cannot reach negative features: set relu=False for a teacher's
    features that were taken before its activation. The paper minimises ||r(F_s) - F_t||^2 / 2 in
    a separate stage.

    The parameters of r are trained with the student and belong to the loss. The running statistics
    of its batch norm, in the collection 'batch_stats', are updated but not used: the loss uses
    those of the batch, over all devices.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015,
    https://arxiv.org/abs/1412.6550; Tian et al., "Contrastive Representation Distillation", ICLR
    2020, https://arxiv.org/abs/1910.10699, for the comparison.

    Attributes:
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      teacher: the name of the teacher.
      batch_norm: whether a batch norm follows; None for maps only. Tokens cannot have one, since
        padding would enter its statistics.
      relu: whether a ReLU follows; None for maps only.
      always_project: whether to project even if student and teacher have the same shape. Otherwise
        such features are compared as they are, by `feature_mse`.
    """

    layers: Layers
    teacher: str = "teacher"
    batch_norm: bool | None = None
    relu: bool | None = None
    always_project: bool = True

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
        """Returns one term: a value per example [B], or per token [B, L].

        Raises:
          ValueError: no projection maps the student's shape to the teacher's, or a batch norm is
            asked for with tokens.
        """
        del clock
        features, target = read_pair(self.layers, student, teachers[self.teacher])
        if features.shape == target.shape and not self.always_project:
            values = feature_mse(features, target)
            return {UNNAMED: Term(values, value_weights(values, student, batch))}
        is_map = features.ndim == 4
        normalises = is_map if self.batch_norm is None else self.batch_norm
        if normalises and features.ndim == 3:
            raise ValueError(
                "Hint: expected no batch norm for tokens, got batch_norm=True; leave it out"
            )
        # A bias in front of a batch norm would change nothing.
        x = projector(features.shape, target.shape, use_bias=not normalises)(features)
        if normalises:
            x = batch_norm(axis_name)(x)
        if is_map if self.relu is None else self.relu:
            x = nn.relu(x)
        values = feature_mse(x, target)
        return {UNNAMED: Term(values, value_weights(values, student, batch))}
