"""A sum of losses that are rescaled to the size of one of them."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jax.typing import ArrayLike

from akd_jax.losses.compose import add_terms, as_loss, evaluate
from akd_jax.losses.rows import divide, sum_devices
from akd_jax.schedules import Schedule, as_schedule
from akd_jax.types import Batch, Clock, Loss, Outputs, Term, WeightedSum

_LARGEST_RATIO = 1e6


def balance(**terms: tuple[Callable[[Clock], ArrayLike] | float, Callable[..., Any]]) -> Loss:
    """Returns the sum of several losses, each rescaled to the size of the first one.

        loss = w_1 L_1 + sum over the others of w_k r_k L_k        r_k = |L_1| / |L_k|

    r_k gets no gradient. The value of a rescaled term is thus w_k |L_1|: the weights say how large
    the terms are. No weight has to be found for losses whose sizes differ by orders of magnitude.
    For example, a hint that is half as large as the cross-entropy throughout the training:

        losses.balance(ce=(1.0, losses.cross_entropy), hint=(0.5, losses.Hint("group_2")))

    L_1 and L_k are means over the batch of all devices; with accumulated gradients, over a part of
    it. r_k is 0 if L_k is 0, and at most 10^6. The records show L_k under the name of the term, and
    w_k r_k under NAME_scale.

    Source: the loss balancer of NVIDIA's Model Optimizer, which rescales the sum of the losses of
    hidden layers to that of the logits, and both to the task's loss.

    Args:
      **terms: as for `compose`; the first one is the reference.

    Raises:
      ValueError: there are fewer than two terms, a function of arrays has a parameter without a
        value, or a loss learns after the student's update.
    """
    if len(terms) < 2:
        raise ValueError(
            f"balance: expected at least two terms, got {len(terms)}; give NAME=(weight, loss)"
        )
    return Balanced(
        weights=FrozenDict({name: as_schedule(weight) for name, (weight, _) in terms.items()}),
        losses=FrozenDict({name: as_loss(loss) for name, (_, loss) in terms.items()}),
        reference=next(iter(terms)),
    )


class Balanced(nn.Module):
    """A sum of losses that are rescaled to the size of one of them; `balance` creates it.

    Attributes:
      weights: the schedule of each weight, by the name of the term.
      losses: the losses by the same names.
      reference: the name of the loss to whose size the others are rescaled.
    """

    weights: Mapping[str, Schedule]
    losses: Mapping[str, Loss]
    reference: str

    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
        *,
        axis_name: str | None = None,
    ) -> Mapping[str, Term]:
        """Returns the terms by name."""
        results = {
            name: evaluate(name, loss, student, teachers, batch, clock, axis_name)
            for name, loss in self.losses.items()
        }
        sizes = {name: _size(result, axis_name) for name, result in results.items()}
        terms: dict[str, Term] = {}
        for name, result in results.items():
            factor = self.weights[name](clock)
            if name != self.reference:
                ratio = divide(sizes[self.reference], sizes[name])
                factor *= jnp.minimum(ratio, _LARGEST_RATIO)
            add_terms(terms, name, result, factor)
        return terms


def _size(terms: Mapping[str, Term], axis_name: str | None) -> jax.Array:
    """Returns the absolute value of a loss over the batch of all devices, without a gradient."""
    loss = jnp.float32(0)
    for term in terms.values():
        sums = WeightedSum.of(term.values, term.weights)
        total, weight = sum_devices(jax.lax.stop_gradient((sums.total, sums.weight)), axis_name)
        loss += jax.lax.stop_gradient(term.scale) * divide(total, weight)
    return jnp.abs(loss)
