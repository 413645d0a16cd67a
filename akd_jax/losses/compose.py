"""Composition of losses: `bind` reads outputs and labels for a function of arrays, `compose` adds.

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
import jax.numpy as jnp
from flax.core import FrozenDict
from jax.typing import ArrayLike

from akd_jax.schedules import Schedule, as_schedule
from akd_jax.types import Array, Batch, Clock, Loss, Outputs, Term, TopK

Layers = str | tuple[str, str]  # A feature of student and teacher, or one of each.

UNNAMED = ""  # The name of the only term of a loss.
READ = (
    "student_logits",
    "teacher_logits",
    "teacher_top_k",
    "student_features",
    "teacher_features",
    "student_head",
    "teacher_head",
    "labels",
    "weights",
    "mask",
)


def layer_names(layers: Layers) -> tuple[str, str]:
    """Returns the names of a student's and of a teacher's feature."""
    return (layers, layers) if isinstance(layers, str) else layers


def bind(
    function: Callable[..., jax.Array],
    *,
    teacher: str = "teacher",
    layers: Layers = "pooled",
    **options: Any,
) -> Loss:
    """Returns a loss that calls a function of arrays with the outputs of student and teacher.

    The names of the function's parameters say what it reads: `student_logits`, `teacher_logits`,
    `student_features`, `teacher_features`, `student_head`, `teacher_head`, `labels`, `weights`,
    those of the examples [B], and `mask`, which positions of the student's texts hold a token
    [B, L], or None for other inputs. `teacher_top_k` is the teacher's largest logits, or all of
    them if the teacher returns all. A parameter `axis_name` receives the axis of the surrounding
    pmap. Examples, or tokens, without a label have weight 0 in a function of labels. Padding has
    weight 0 in values per token.

    Args:
      function: a function of this package, or one of the same form. It returns one value per
        example [B], or per token [B, L].
      teacher: the name of the teacher.
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      **options: further arguments of the function. A `Schedule` is evaluated at the clock.

    Raises:
      ValueError: the function has a parameter without a value, or does not have an option.
    """
    parameters = inspect.signature(function).parameters
    required = {n for n, p in parameters.items() if p.default is p.empty}
    missing = required - {*READ, "axis_name", *options}
    unknown = options.keys() - parameters.keys()
    name = getattr(function, "__name__", "loss")
    if missing or unknown:
        problem = f"a value for {min(missing)!r}" if missing else f"no option {min(unknown)!r}"
        raise ValueError(
            f"{name}: expected {problem}, which bind does not know; its parameters are"
            f" {', '.join(parameters)}"
        )
    student_layer, teacher_layer = layer_names(layers)

    def loss(
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
        *,
        axis_name: str | None = None,
    ) -> Mapping[str, Term]:
        readers: dict[str, Callable[[], Any]] = {
            "student_logits": lambda: student.logits,
            "teacher_logits": lambda: teachers[teacher].logits,
            "teacher_top_k": lambda: _largest_logits(teachers[teacher]),
            "student_features": lambda: student.features[student_layer],
            "teacher_features": lambda: teachers[teacher].features[teacher_layer],
            "student_head": lambda: student.head,
            "teacher_head": lambda: teachers[teacher].head,
            "labels": lambda: batch.filled_labels,
            "weights": lambda: batch.weights,
            "mask": lambda: student.mask,
            "axis_name": lambda: axis_name,
        }
        arguments = {name: read() for name, read in readers.items() if name in parameters}
        for option, value in options.items():
            arguments[option] = value(clock) if isinstance(value, Schedule) else value
        values = function(**arguments)
        weights = value_weights(values, student, batch, labels="labels" in parameters)
        return {UNNAMED: Term(values, weights)}

    return loss


def _largest_logits(outputs: Outputs) -> TopK | jax.Array:
    """Returns the largest logits of a teacher that returns no others, or all logits."""
    return outputs.logits if outputs.top_k is None else outputs.top_k


def value_weights(
    values: Array, student: Outputs, batch: Batch, *, labels: bool = False
) -> jax.Array:
    """Returns the weights of values [B] or [B, L]: those of the examples, 0 for padding tokens.

    Args:
      values: one value per example or token.
      student: the student's outputs.
      batch: the batch.
      labels: whether the values need labels; then those without a label have weight 0.
    """
    weights = jnp.asarray(batch.weights)
    if values.ndim == 2:
        weights = jnp.broadcast_to(weights[:, None], values.shape)
        if student.mask is not None:
            weights = jnp.where(student.mask, weights, 0)
    labelled = batch.labelled
    if labels and labelled.shape == values.shape[: labelled.ndim]:
        weights = jnp.where(
            jnp.expand_dims(labelled, range(labelled.ndim, values.ndim)), weights, 0
        )
    return weights


def compose(**terms: tuple[Callable[[Clock], ArrayLike] | float, Callable[..., Any]]) -> Loss:
    """Returns the sum of several losses, each with a scheduled weight.

    loss = sum over the terms of weight(clock) * mean of the term

    Every mean is taken over the weights of its own term: examples, tokens, or those with a label.
    The records show every mean, without its weight, under the name of the term, and the weight
    under NAME_scale.

    Args:
      **terms: the name of a term, with a pair of its weight and its loss. The weight is a number
        or a function of the clock, such as those of `schedules`. The loss is a loss; or a
        function of arrays, as for `bind` with its default values.

    Returns:
      A loss. It is a Flax module if one of the losses is, whose variables it then owns.

    Raises:
      ValueError: there is no term, a function needs an option, or a loss learns after the update.
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
                f"compose: expected terms with different names, got {full_name!r} twice; rename one"
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
