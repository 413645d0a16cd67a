"""The terms of a loss: evaluation, checks, and sums over a batch."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.losses.binding import UNNAMED
from akd_jax.losses.compose import takes_axis_name
from akd_jax.models.network import Model
from akd_jax.types import Batch, Clock, Loss, Metrics, Outputs, Term, Variables, WeightedSum

_RESERVED = ("loss", "accuracy", "squared_error", "agreement", "nonfinite")  # The step's own.


def learns_after_update(loss: Loss) -> bool:
    """Returns whether the parameters of a loss learn from the student after its update.

    Such a loss is a module whose attribute `learns_after_update` is true. Its method `after_update`
    has the arguments of a loss, and `model`, the updated student; it returns terms. The student's
    outputs are those of the updated student in inference mode, and the random numbers are those of
    the call before. Only the loss's parameters learn from the terms.
    """
    return isinstance(loss, nn.Module) and getattr(loss, "learns_after_update", False)


def evaluate_loss(
    loss: Loss,
    variables: Variables,
    student: Outputs,
    teachers: Mapping[str, Outputs],
    batch: Batch,
    clock: Clock,
    *,
    key: jax.Array,
    axis_name: str | None,
    updated: Model | None = None,
) -> tuple[dict[str, Term], Variables]:
    """Returns the terms of a loss by name, and the changed collections of a loss module.

    Args:
      loss: the loss, a function or a Flax module.
      variables: the variables of the module; {} for a function.
      student: the student's outputs.
      teachers: the teachers' outputs by name.
      batch: the batch.
      clock: the time of the update.
      key: PRNG key of the module's random numbers.
      axis_name: the axis of the surrounding pmap, for losses that combine rows of all devices.
      updated: the updated student, to call the method `after_update` of the module; None to call
        the loss itself.

    Raises:
      ValueError: the loss returns no term, a term has the wrong shape, or the name of a term is
        also that of another metric.
      InputError: the loss reads a teacher or a feature that does not exist.
    """
    options: dict[str, Any] = {"axis_name": axis_name} if takes_axis_name(loss) else {}
    if updated is not None:
        options |= {"model": updated, "method": "after_update"}
    changed: Variables = {}
    with explain_missing_names(student, teachers):
        if isinstance(loss, nn.Module):
            mutable = [name for name in variables if name != "params"]
            result, changed = loss.apply(
                variables,
                student,
                teachers,
                batch,
                clock,
                rngs={"loss": key},
                mutable=mutable,
                **options,
            )
        else:
            result = loss(student, teachers, batch, clock, **options)
    if isinstance(result, Term):
        raise ValueError("loss: expected an array or a mapping of Terms, got a Term; name the Term")
    if not isinstance(result, Mapping):
        if jnp.shape(result) != batch.weights.shape:
            raise ValueError(
                f"loss: expected one value per example, shape {batch.weights.shape}, got shape"
                f" {jnp.shape(result)}; return Terms for values with other weights"
            )
        return {UNNAMED: Term(result, batch.weights)}, changed
    _check_names(result)
    for name, term in result.items():
        _check_term(name, term, len(batch.weights))
    return dict(result), changed


@contextlib.contextmanager
def explain_missing_names(student: Outputs, teachers: Mapping[str, Outputs]) -> Iterator[None]:
    """Raises InputError with the existing names for the KeyError of a loss within the context.

    Args:
      student: the student's outputs.
      teachers: the teachers' outputs by name.
    """
    try:
        yield
    except KeyError as error:
        name = error.args[0] if error.args else None
        if not isinstance(name, str):
            raise
        known = "; ".join(
            f"{owner} has {', '.join(outputs.features) or 'none'}"
            for owner, outputs in {"the student": student, **teachers}.items()
        )
        raise InputError(
            f"loss: expected the name of a teacher or of a feature, got {name!r}; use one of the"
            f" teachers ({', '.join(teachers) or 'there are none'}) or of the features: {known}"
        ) from error


def sums(terms: Mapping[str, Term]) -> dict[str, WeightedSum]:
    """Returns the weighted sum of each term, unscaled; its weights get no gradient."""
    return {
        name: WeightedSum.of(term.values, jax.lax.stop_gradient(term.weights))
        for name, term in terms.items()
    }


def scaled_loss(
    terms: Mapping[str, Term], sums: Mapping[str, WeightedSum], weights: Mapping[str, jax.Array]
) -> jax.Array:
    """Returns the sum of scale * total / weight over the terms, with the weights given by name."""
    total = jnp.float32(0)
    for name, term in terms.items():
        positive = weights[name] > 0
        inverse = jnp.where(positive, 1 / jnp.where(positive, weights[name], 1), 0)
        total += jnp.float32(term.scale) * sums[name].total * inverse
    return total


def metrics(terms: Mapping[str, Term], sums: Mapping[str, WeightedSum]) -> Metrics:
    """Returns NAME, the unscaled mean, and NAME_scale of each named term."""
    named = {name: term for name, term in terms.items() if name != UNNAMED}
    scales = {
        f"{name}_scale": WeightedSum(jnp.float32(term.scale), jnp.float32(1))
        for name, term in named.items()
    }
    return {**{name: sums[name] for name in named}, **scales}


def _check_names(terms: Mapping[str, Any]) -> None:
    """Raises ValueError if there is no term, or if a term has the name of another metric."""
    if not terms:
        raise ValueError("loss: expected at least one term, got none; return a Term by its name")
    taken = [*_RESERVED, *(f"{name}_scale" for name in terms)]
    for name in terms:
        if name in taken:
            raise ValueError(
                f"loss: expected a name that no other metric has, got the term {name!r}; rename it"
            )


def _check_term(name: str, term: Any, rows: int) -> None:
    """Raises ValueError if the shapes of a term do not fit each other or the batch."""
    if not isinstance(term, Term):
        raise ValueError(f"loss term {name!r}: expected a Term, got {type(term).__name__}")
    values, weights = jnp.shape(term.values), jnp.shape(term.weights)
    if values != weights:
        raise ValueError(
            f"loss term {name!r}: expected weights of the shape {values} of its values, got"
            f" {weights}; give one weight per value"
        )
    if values[:1] != (rows,):
        raise ValueError(
            f"loss term {name!r}: expected values for the {rows} examples, [{rows}] or"
            f" [{rows}, L], got shape {values}; return one value per example or token"
        )
    if jnp.shape(term.scale) != ():
        raise ValueError(
            f"loss term {name!r}: expected a scalar as scale, got shape {jnp.shape(term.scale)};"
            " multiply the values by factors that differ between examples"
        )
