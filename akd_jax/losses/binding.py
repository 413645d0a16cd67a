"""Binding: a loss of outputs and batches from a function of arrays."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from akd_jax.schedules import Schedule
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
    those of the examples [B], and `mask`, that of the student's outputs [B, L], or None if the
    inputs are no texts. `teacher_top_k` is the teacher's largest logits, or all of
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
