"""Variational information distillation: the teacher's features as a Gaussian of the student's."""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, value_weights
from akd_jax.losses.features.preparation import mean_per_row, pool_to_smaller, read_pair
from akd_jax.losses.features.projectors import apply_to_rows
from akd_jax.types import Batch, Clock, Outputs, Term

_SMALLEST_VARIANCE = 1e-5


class VID(nn.Module):
    """The negative log-likelihood of the teacher's features given the student's (VID).

        value = mean ((mu(F_s) - F_t)^2 / v + log v) / 2        v_c = softplus(s_c) + 1e-5

    The teacher's features are Gaussian, with a mean mu that three 1x1 convolutions, with ReLUs
    between them, compute from the student's features, and one variance v per channel. To minimise
    the value is to maximise a lower bound of the mutual information of student and teacher. The
    mean runs over all elements of an example, or of a token; the constant log(2 pi) / 2 is left
    out. A value may be negative. If the maps differ in size, the larger one is average-pooled to
    the size of the smaller one. For vectors and tokens the convolutions are dense layers.

    mu and v are trained with the student and belong to the loss. The published code mdistiller
    does not train v, which stays 5 there. The usual weight is 1 for each pair of layers, next to a
    cross-entropy of weight 1.

    Source: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
    https://arxiv.org/abs/1904.05835.

    Attributes:
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      teacher: the name of the teacher.
      initial_variance: variance v of all channels before the first update, above 1e-5.
    """

    layers: Layers
    teacher: str = "teacher"
    initial_variance: float = 5.0

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
    ) -> Mapping[str, Term]:
        """Returns one term: a value per example [B], or per token [B, L].

        Raises:
          ValueError: the features are neither both maps, nor both tokens of the same texts, nor
            both vectors; or the initial variance is too small.
        """
        del clock
        checks.check_values(
            "initial_variance",
            self.initial_variance,
            f"a finite number above {_SMALLEST_VARIANCE:g}",
            lambda v: (v > _SMALLEST_VARIANCE) & (v < math.inf),
        )
        features, target = read_pair(self.layers, student, teachers[self.teacher])
        if features.ndim == target.ndim == 4:
            features, target = pool_to_smaller(features, target)
        if features.shape[:-1] != target.shape[:-1] or features.ndim not in (2, 3, 4):
            raise ValueError(
                "VID: expected both maps [B, H, W, C], both tokens [B, L, D] of the same texts or"
                f" both vectors [B, D], got shapes {features.shape} and {target.shape}; choose"
                " other layers"
            )
        channels = target.shape[-1]
        dense = [nn.Dense(channels, use_bias=False) for _ in range(3)]
        # A dense layer is a 1x1 convolution, since the channels are the last axis.
        mean = apply_to_rows(
            nn.Sequential([dense[0], nn.relu, dense[1], nn.relu, dense[2]]), features
        )
        # The inverse of the softplus, in a form that does not overflow.
        initial = self.initial_variance - _SMALLEST_VARIANCE
        initial += math.log(-math.expm1(-initial))
        # The variance is positive for every value of the parameter.
        s = self.param("softplus_inverse", nn.initializers.constant(initial), (channels,))
        variance = jax.nn.softplus(s) + _SMALLEST_VARIANCE
        values = mean_per_row(jnp.square(mean - target) / variance + jnp.log(variance)) / 2
        return {UNNAMED: Term(values, value_weights(values, student, batch))}
