"""The gradient of a loss over a batch that is spread over devices and parts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from akd_jax.losses.rows import sum_devices
from akd_jax.training import terms as loss_terms
from akd_jax.types import Batch, Metrics, Outputs, Teacher, Term, WeightedSum

# A function of parameters, other variables, a part of a batch, the teachers' outputs for it and a
# key. It returns the terms of the loss, further metrics, and the changed other variables.
Evaluate = Callable[
    [Any, Any, Batch, Mapping[str, Outputs], jax.Array], tuple[dict[str, Term], Metrics, Any]
]


def gradients_of(
    evaluate: Evaluate,
    params: Any,
    collections: Any,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    key: jax.Array,
    *,
    parts: int,
    axis_name: str | None,
) -> tuple[Any, Metrics, Any]:
    """Returns the gradient of a loss, summed over all parts of the batch and all devices.

    Every term is divided by its total weight, so that the result does not depend on the number of
    devices and parts.

    Args:
      evaluate: evaluates the terms of the loss on a part.
      params: the parameters, with respect to which the loss is differentiated.
      collections: the other variables; they pass from part to part.
      teachers: the teachers by name.
      batch: this device's share.
      key: PRNG key; with several parts, the number of a part is folded in.
      parts: number of parts of the device's share, which are computed one by one.
      axis_name: the axis of the surrounding pmap; None without pmap.

    Returns:
      The gradient; the metrics, 'loss' and those of the terms and of `evaluate`; and the changed
      collections.

    Raises:
      ValueError: the number of rows is not a multiple of `parts`.
    """

    def part_weights(
        collections: Any, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, jax.Array], Any]:
        """Returns the weight of each term. XLA removes the outputs that only values need."""
        outputs = {name: teacher(batch) for name, teacher in teachers.items()}
        terms, _, collections = evaluate(params, collections, batch, outputs, key)
        return {name: x.weight for name, x in loss_terms.sums(terms).items()}, collections

    def part_gradients(
        collections: Any, batch: Batch, key: jax.Array
    ) -> tuple[tuple[Any, Metrics], Any]:
        """Returns the gradient of a part's share of the loss, and the metrics of the part."""
        # Run the teachers outside the differentiated function: no backward pass needs them.
        outputs = {name: teacher(batch) for name, teacher in teachers.items()}

        def share(params: Any) -> tuple[jax.Array, tuple[Metrics, Any]]:
            terms, others, changed = evaluate(params, collections, batch, outputs, key)
            sums = loss_terms.sums(terms)
            weights = total_weights
            if weights is None:
                weights = sum_devices({n: x.weight for n, x in sums.items()}, axis_name)
            loss = loss_terms.scaled_loss(terms, sums, weights)
            metrics = {
                "loss": WeightedSum(loss, jnp.sum(batch.weights)),
                **loss_terms.metrics(terms, sums),
                **others,
            }
            return loss, (metrics, changed)

        gradients, (metrics, changed) = jax.grad(share, has_aux=True)(params)
        return (gradients, metrics), changed

    # The weights of all parts are needed before the gradient of the first part.
    total_weights = None
    if parts > 1:
        weights, _ = _sum_over_parts(part_weights, parts, collections, batch, key)
        total_weights = sum_devices(weights, axis_name)
    sums, collections = _sum_over_parts(part_gradients, parts, collections, batch, key)
    gradients, metrics = sum_devices(sums, axis_name)
    return gradients, metrics, collections


def _sum_over_parts(
    function: Callable[[Any, Batch, jax.Array], tuple[Any, Any]],
    parts: int,
    collections: Any,
    batch: Batch,
    key: jax.Array,
) -> tuple[Any, Any]:
    """Returns the summed results of a function of the parts of a batch, computed one by one."""
    if parts == 1:
        return function(collections, batch, key)
    rows = len(batch.weights)
    if rows % parts:
        raise ValueError(
            f"batch: expected a multiple of {parts} rows per device, got {rows}; change the size of"
            " the batch or the number of parts"
        )
    split = jax.tree.map(lambda x: x.reshape(parts, rows // parts, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], split)
    result, _ = jax.eval_shape(function, collections, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), result)

    def add(carry: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        sums, collections = carry
        part_batch, number = part
        result, collections = function(collections, part_batch, jax.random.fold_in(key, number))
        return (jax.tree.map(jnp.add, sums, result), collections), None

    (sums, collections), _ = jax.lax.scan(add, (zeros, collections), (split, jnp.arange(parts)))
    return sums, collections
