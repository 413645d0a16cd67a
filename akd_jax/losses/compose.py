"""Composition of losses: the sum of several, each with a scheduled weight.

For example, the cross-entropy, the KL divergence and a hint whose weight falls to 0:

    losses.compose(
        ce=(0.1, losses.cross_entropy),
        kd=(0.9, losses.bind(losses.kl, temperature=4.0)),
        hint=(schedules.linear(100.0, 0.0, epochs=10), losses.Hint("group_2")),
    )
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core import FrozenDict
from jax.typing import ArrayLike

from akd_jax.losses.binding import READ, UNNAMED, bind, value_weights
from akd_jax.schedules import Schedule, as_schedule
from akd_jax.types import Batch, Clock, Loss, Outputs, Term


def compose(**terms: tuple[Callable[[Clock], ArrayLike] | float, Callable[..., Any]]) -> Loss:
    """Returns the sum of several losses, each with a scheduled weight.

    loss = sum over the terms of weight(clock) * mean of the term

    Every mean is taken over the weights of its own term: examples, tokens, or those with a label.
    The records show every mean, without its weight, under the name of the term, and the weight
    under NAME_scale.

    Args:
      **terms: the name of a term, with a pair of its weight and its loss. The weight is a number
        or a function of the clock, such as those of `schedules`. The loss is a `Loss`, or a
        function of arrays, as for `bind` with its default values.

    Returns:
      A loss. It is a Flax module if one of the losses is, whose variables it then owns.

    Raises:
      ValueError: there is no term, a function of arrays has a parameter without a
        value, or a loss learns after the update.
    """
    if not terms:
        raise ValueError("compose: expected at least one term, got none; give NAME=(weight, loss)")
    losses = {name: as_loss(loss) for name, (_, loss) in terms.items()}
    kind = ModuleSum if any(isinstance(loss, nn.Module) for loss in losses.values()) else Sum
    # Frozen, because a compiled step compares and hashes its loss.
    return kind(
        weights=FrozenDict({name: as_schedule(weight) for name, (weight, _) in terms.items()}),
        losses=FrozenDict(losses),
    )


@dataclasses.dataclass(frozen=True)
class Sum:
    """A sum of functions; `compose` creates it.

    Attributes:
      weights: the schedule of each weight, by the name of the term.
      losses: the losses by the same names.
    """

    weights: Mapping[str, Schedule]
    losses: Mapping[str, Loss]

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
        return _weighted_terms(self, student, teachers, batch, clock, axis_name)


class ModuleSum(nn.Module):
    """A sum of losses some of which own variables; `compose` creates it.

    Attributes:
      weights: the schedule of each weight, by the name of the term.
      losses: the losses by the same names.
    """

    weights: Mapping[str, Schedule]
    losses: Mapping[str, Loss]

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
        return _weighted_terms(self, student, teachers, batch, clock, axis_name)


def _weighted_terms(
    composed: Sum | ModuleSum,
    student: Outputs,
    teachers: Mapping[str, Outputs],
    batch: Batch,
    clock: Clock,
    axis_name: str | None,
) -> Mapping[str, Term]:
    """Returns the terms of all losses with their scheduled weights as scales."""
    terms: dict[str, Term] = {}
    for name, loss in composed.losses.items():
        result = evaluate(name, loss, student, teachers, batch, clock, axis_name)
        add_terms(terms, name, result, composed.weights[name](clock))
    return terms


def evaluate(
    name: str,
    loss: Loss,
    student: Outputs,
    teachers: Mapping[str, Outputs],
    batch: Batch,
    clock: Clock,
    axis_name: str | None,
) -> Mapping[str, Term]:
    """Returns the terms of a loss; the name of the loss precedes the message of a ValueError."""
    options = {"axis_name": axis_name} if takes_axis_name(loss) else {}
    try:
        result = loss(student, teachers, batch, clock, **options)
    except ValueError as error:
        raise type(error)(f"{name}: {error}") from error
    if isinstance(result, Mapping):
        return result
    return {UNNAMED: Term(result, value_weights(result, student, batch))}


def add_terms(
    terms: dict[str, Term], name: str, result: Mapping[str, Term], weight: jax.Array
) -> None:
    """Adds the terms of a loss to others, with a weight in their scales.

    Args:
      terms: the terms that are changed.
      name: the name of the loss; a term is called NAME, or NAME_PART if there are several.
      result: the terms of the loss.
      weight: the weight of the loss.

    Raises:
      ValueError: two terms have the same name.
    """
    for part, term in result.items():
        full_name = name if len(result) == 1 else f"{name}_{part}"
        if full_name in terms:
            raise ValueError(
                f"terms: expected terms with different names, got {full_name!r} twice; rename one"
            )
        terms[full_name] = term.replace(scale=weight * term.scale)


def takes_axis_name(loss: Loss) -> bool:
    """Returns whether a loss combines the rows of all devices of an axis."""
    return "axis_name" in inspect.signature(loss).parameters


def as_loss(loss: Callable[..., Any]) -> Loss:
    """Returns a loss as it is, and a function of arrays bound with the default options.

    Raises:
      ValueError: the loss learns after the student's update, so that it cannot be a part of a sum.
    """
    if getattr(loss, "learns_after_update", False):
        raise ValueError(
            f"loss: expected a loss that learns with the student, got {type(loss).__name__}, which"
            " learns after the student's update; use it as the whole loss of a stage"
        )
    if isinstance(loss, nn.Module):
        return loss
    names = set(inspect.signature(loss).parameters)
    return bind(loss) if names & {*READ} else loss
