"""Factor transfer: the student predicts what an autoencoder keeps of the teacher's map."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import Layers, value_weights
from akd_jax.losses.features.distances import feature_mse
from akd_jax.losses.features.preparation import check_maps, pool_to_smaller, read_pair
from akd_jax.losses.rows import unit_rows
from akd_jax.types import Batch, Clock, Outputs, Term


class FactorTransfer(nn.Module):
    """The difference of normalised factors of student and teacher, with an autoencoder (FT).

        factor = mean |T(F_s) / ||T(F_s)|| - P(F_t) / ||P(F_t)|||
        reconstruction = mean (D(P(F_t)) - F_t)^2

    The paraphraser P and its decoder D are an autoencoder of the teacher's map that keeps a part of
    the channels. The translator T maps the student's map to as many channels. Each consists of
    three 3x3 convolutions, each with a leaky ReLU of slope 0.1. The norms and means run over all
    elements of an example. If the factors differ in size, the larger one is average-pooled to the
    size of the smaller one.

    The paper trains the paraphraser first, and then keeps it. Here it is trained along with the
    student, only by the reconstruction: the factor loss gives it no gradient.

    The usual weight of this form is 500 next to a cross-entropy of weight 1, in the authors' code
    for CIFAR-10, and 1000 in torchdistill's for ImageNet. RepDistiller takes the mean of the
    squared channels of both factors first, with the weight 200. As to the reconstruction, the
    authors' code has the mean absolute error, RepDistiller and torchdistill that of the squares.

    Source: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer",
    NeurIPS 2018, https://arxiv.org/abs/1802.04977.

    Attributes:
      layers: the map that student and teacher call by this name; or a pair, the student's feature
        and the teacher's.
      teacher: the name of the teacher.
      rate: number of channels of a factor as a fraction k of the teacher's, in (0, 1].
      reconstruction_weight: weight of the reconstruction relative to the factor loss, at least 0;
        0.002 gives it the weight 1 if that of the loss is 500.
    """

    layers: Layers
    teacher: str = "teacher"
    rate: float = 0.5
    reconstruction_weight: float = 0.002

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
    ) -> Mapping[str, Term]:
        """Returns the terms 'factor' and 'reconstruction', with a value per example [B].

        Raises:
          ValueError: the features are not maps, or an option is out of its range.
        """
        del clock
        checks.check_values("rate", self.rate, "a number in (0, 1]", lambda x: (x > 0) & (x <= 1))
        checks.check_values(
            "reconstruction_weight",
            self.reconstruction_weight,
            "a finite number of at least 0",
            lambda x: (x >= 0) & (x < jnp.inf),
        )
        features, target = read_pair(self.layers, student, teachers[self.teacher])
        check_maps(features, target)
        channels = target.shape[-1]
        width = max(1, round(self.rate * channels))
        factor = _convolutions("translator", features, (features.shape[-1], width, width))
        code = _convolutions("paraphraser", target, (channels, width, width))
        decoded = _convolutions("decoder", code, (width, channels, channels))

        rows, targets = (
            unit_rows(maps.reshape(len(maps), -1))
            for maps in pool_to_smaller(factor, jax.lax.stop_gradient(code))
        )
        values = jnp.abs(rows - targets).mean(axis=-1)
        errors = feature_mse(decoded, target)
        weights = value_weights(values, student, batch)
        return {
            "factor": Term(values, weights),
            "reconstruction": Term(errors, weights, self.reconstruction_weight),
        }


def _convolutions(name: str, maps: jax.Array, widths: Sequence[int]) -> jax.Array:
    """Applies 3x3 convolutions to these numbers of channels, each with a leaky ReLU."""
    for number, width in enumerate(widths):
        maps = nn.leaky_relu(nn.Conv(width, (3, 3), name=f"{name}_{number}")(maps), 0.1)
    return maps
