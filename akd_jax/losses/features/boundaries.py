"""Activation boundaries: on which side of 0 each unit of the teacher is before its ReLU."""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, value_weights
from akd_jax.losses.features.preparation import read_pair
from akd_jax.losses.features.projectors import batch_norm, projector
from akd_jax.types import Batch, Clock, Outputs, Term


class AB(nn.Module):
    """The squared hinge between the student's features and the signs of the teacher's (AB).

        value = sum of max(0, m - s)^2 where t > 0, of max(0, m + s)^2 where t <= 0

    t are the teacher's features before the ReLU, s those of the student after a connector. The
    margin is m. The sum runs over all elements of an example: only the sign of t matters.

    The connector is the layer that `projector` chooses for the two shapes, a 1x1 convolution for
    maps of one size, and a batch norm. It is trained with the student and belongs to the loss.
    Features of one shape have none. The running statistics of the batch norm, in the collection
    'batch_stats', are updated but not used: the loss uses those of the batch, over all devices.

    The paper trains the student's layers up to this one, and the connector, with this loss only,
    in a separate stage, before it trains the whole student. The weight is 0.003 there for the
    last group of a network, half of it for the group before, and so on; the same in RepDistiller.

    Source: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by
    Hidden Neurons", AAAI 2019, https://arxiv.org/abs/1811.03233.

    Attributes:
      layers: the feature, taken before the ReLU, that student and teacher call by this name; or a
        pair, the student's feature and the teacher's.
      teacher: the name of the teacher.
      margin: distance m from 0 that the student's features are to keep, above 0.
    """

    layers: Layers = "group_3_preactivation"
    teacher: str = "teacher"
    margin: float = 1.0

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
        """Returns one term, a value per example [B].

        Raises:
          ValueError: the features are tokens, no projection maps the student's shape to the
            teacher's, or the margin is not above 0.
        """
        del clock
        checks.check_values(
            "margin",
            self.margin,
            "a finite number above 0",
            lambda margin: (margin > 0) & (margin < math.inf),
        )
        features, target = read_pair(self.layers, student, teachers[self.teacher])
        if target.ndim == 3:
            raise ValueError(
                f"AB: expected maps [B, H, W, C] or vectors [B, D], got tokens {target.shape},"
                " whose padding would enter the batch norm; choose other layers"
            )
        x = features
        if features.shape != target.shape:
            # A bias in front of a batch norm would change nothing.
            x = projector(features.shape, target.shape, use_bias=False)(x)
            x = batch_norm(axis_name)(x)
        errors = nn.relu(self.margin - jnp.where(target > 0, x, -x))
        values = jnp.square(errors).sum(axis=tuple(range(1, errors.ndim)))
        return {UNNAMED: Term(values, value_weights(values, student, batch))}
