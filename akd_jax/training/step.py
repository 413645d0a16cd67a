"""Training step and prediction step: the only code with gradients and collectives.

The steps are pure functions. They run under `jax.pmap` with the name of its axis, or on a
single device under `jax.jit` with axis_name=None. The results are the same for the same
examples: every term of a loss is divided by its total weight, which is summed over all devices
and all accumulated parts. A mean of the devices' means would be wrong if a device has padding
rows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from akd_jax import losses
from akd_jax.losses.compose import value_weights
from akd_jax.losses.rows import sum_devices
from akd_jax.models.network import Model
from akd_jax.training import terms as loss_terms
from akd_jax.training.frozen import inference_mode, merge_frozen
from akd_jax.training.state import TrainState, prepare_batch
from akd_jax.types import Batch, Clock, Metrics, Outputs, Teacher, Term, Variables, WeightedSum

# Numbers that are folded into the key of an update. No device has such an index.
_PREPARE_KEY = 2**32 - 1
_LOSS_KEY = 2**32 - 2

_Collections = tuple[Variables, Variables]  # The non-trained variables of student and loss.


def train_step(
    state: TrainState,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    temperature_step: jax.Array,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Updates the student, and the parameters of its loss, once.

    Args:
      state: the student, its optimizer and its loss.
      teachers: name to teacher; empty if the loss reads no teacher. It is a pytree, so that
        another teacher of the same shape does not recompile the step.
      batch: this device's share, [B / devices, ...]; the whole batch if axis_name is None.
      temperature_step: k, an int32 scalar array.
      axis_name: the axis of the surrounding pmap; None without pmap.

    Returns:
      The new state, and the metrics of the batch before the update. Both are the same on every
      device. The metrics are 'loss'; NAME and NAME_scale of each named term of the loss; those
      of `label_metrics`; and 'nonfinite', which is 1 if the loss or a gradient is not finite.
      With `state.skip_nonfinite`, such a step changes only the step number and has weight 0 in
      the other metrics.

    Raises:
      ValueError: the loss returns values or weights of a wrong shape, `state.prepare` changes
        shapes, or the number of rows is not a multiple of `state.grad_accumulation_steps`.
      InputError: the loss reads a teacher or a feature that does not exist.
    """
    clock = Clock(
        temperature_step=jnp.asarray(temperature_step, jnp.int32),
        epoch=state.step // jnp.int32(state.steps_per_epoch),
        step=state.step,
    )
    update_key = jax.random.fold_in(state.key, state.step)
    prepare_key = jax.random.fold_in(update_key, _PREPARE_KEY)
    batch = prepare_batch(state.prepare, state.model, teachers, batch, clock, prepare_key)
    device = 0 if axis_name is None else jax.lax.axis_index(axis_name)
    key = jax.random.fold_in(update_key, device)

    def evaluate(
        params: Any,
        collections: _Collections,
        batch: Batch,
        teacher_outputs: Mapping[str, Outputs],
        key: jax.Array,
    ) -> tuple[dict[str, Term], Outputs, _Collections]:
        """Applies student and loss to a part of the batch."""
        model_state, loss_state = collections
        with inference_mode(state.frozen_paths):
            outputs, model_state = state.apply_fn(
                {"params": merge_frozen(params["student"], state.frozen), **model_state},
                batch.inputs,
                train=True,
                axis_name=axis_name,
                rngs={"dropout": key},
                mutable=list(model_state),
                **dict(state.training_options),
            )
        terms, loss_state = loss_terms.evaluate_loss(
            state.loss,
            {"params": params["loss"], **loss_state},
            outputs,
            teacher_outputs,
            batch,
            clock,
            key=jax.random.fold_in(key, _LOSS_KEY),
            axis_name=axis_name,
        )
        return terms, outputs, (model_state, loss_state)

    def part_weights(
        collections: _Collections, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, jax.Array], _Collections]:
        """Returns the weight of each term. XLA removes the outputs that only values need."""
        teacher_outputs = {name: teacher(batch) for name, teacher in teachers.items()}
        terms, _, collections = evaluate(state.params, collections, batch, teacher_outputs, key)
        return {name: x.weight for name, x in loss_terms.sums(terms).items()}, collections

    def part_gradients(
        collections: _Collections, batch: Batch, key: jax.Array
    ) -> tuple[tuple[Any, Metrics], _Collections]:
        """Returns the gradient of a part's share of the loss, and the metrics of the part."""
        # Run the teachers outside the differentiated function: no backward pass needs them.
        teacher_outputs = {name: teacher(batch) for name, teacher in teachers.items()}

        def share(params: Any) -> tuple[jax.Array, tuple[Metrics, _Collections]]:
            terms, outputs, changed = evaluate(params, collections, batch, teacher_outputs, key)
            sums = loss_terms.sums(terms)
            weights = total_weights
            if weights is None:
                weights = sum_devices({n: x.weight for n, x in sums.items()}, axis_name)
            loss = loss_terms.scaled_loss(terms, sums, weights)
            metrics = {
                "loss": WeightedSum(loss, jnp.sum(batch.weights)),
                **loss_terms.metrics(terms, sums),
                **label_metrics(outputs, batch),
            }
            return loss, (metrics, changed)

        gradients, (metrics, changed) = jax.grad(share, has_aux=True)(state.params)
        return (gradients, metrics), changed

    # The weights of all parts are needed before the gradient of the first part.
    collections, parts = (state.model_state, state.loss_state), state.grad_accumulation_steps
    total_weights = None
    if parts > 1:
        weights, _ = _sum_over_parts(part_weights, parts, collections, batch, key)
        total_weights = sum_devices(weights, axis_name)
    sums, collections = _sum_over_parts(part_gradients, parts, collections, batch, key)
    gradients, metrics = sum_devices(sums, axis_name)

    # The shares of the loss add up to the loss of the batch. Its weight is that of the examples.
    loss = metrics["loss"]
    metrics = {**metrics, "loss": WeightedSum(loss.total * loss.weight, loss.weight)}
    finite = jnp.isfinite(loss.total) & jnp.isfinite(optax.tree.norm(gradients))
    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    model_state, loss_state = collections
    updated = state.replace(
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        loss_state=loss_state,
        opt_state=opt_state,
    )
    if state.skip_nonfinite:
        updated = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        metrics = jax.tree.map(lambda total: jnp.where(finite, total, 0), metrics)
    nonfinite = WeightedSum(1 - finite.astype(jnp.float32), jnp.float32(1))
    return updated.replace(step=state.step + 1), {**metrics, "nonfinite": nonfinite}


def train_steps(
    state: TrainState,
    teachers: Mapping[str, Teacher],
    batches: Batch,
    temperature_step: jax.Array,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Runs `train_step` on K batches in sequence, in one program.

    Args:
      state: the state before the first update.
      teachers: as for `train_step`.
      batches: this device's shares of K batches, [K, B / devices, ...].
      temperature_step: k of all K updates, an int32 scalar array.
      axis_name: the axis of the surrounding pmap; None without pmap.

    Returns:
      The state after the last update, and the metrics of each update, [K].
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(state, teachers, batch, temperature_step, axis_name=axis_name)

    # On CPU, XLA runs the body of a loop in one thread; convolutions take 20 times as long there.
    unroll = len(batches.weights) if jax.default_backend() == "cpu" else 1
    return jax.lax.scan(update, state, batches, unroll=unroll)


def predict_step(
    model: Model,
    batch: Batch,
    *,
    view: Callable[[Batch], Batch] | None = None,
    select: Callable[[Outputs], Outputs] | None = None,
    axis_name: str | None = None,
) -> Outputs:
    """Returns the outputs of a model in inference mode.

    Args:
      model: the model.
      batch: this device's share, [B / devices, ...].
      view: changes the batch before the model reads it; None to use it as it is.
      select: the part of the outputs to return; None for the logits in float32.
      axis_name: not used; each device returns the outputs of its share.
    """
    del axis_name
    outputs = model((batch if view is None else view(batch)).inputs)
    if select is None:
        return Outputs(outputs.logits.astype(jnp.float32))
    return select(outputs)


def label_metrics(outputs: Outputs, batch: Batch) -> Metrics:
    """Returns the training metric of a batch: 'accuracy', or 'squared_error' for a regression.

    Only examples or tokens with a label count. There is no metric if the logits and the labels do
    not describe the same examples or tokens. The metrics of the task over a whole split are in
    `akd_jax.metrics`.
    """
    labels = jnp.asarray(batch.labels)
    if outputs.logits.shape[:-1] != labels.shape:
        return {}
    weights = value_weights(labels, outputs, batch, labels=True)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        errors = losses.squared_error(outputs.logits, jnp.where(batch.labelled, labels, 0))
        return {"squared_error": WeightedSum.of(errors, weights)}
    correct = jnp.argmax(outputs.logits, axis=-1) == labels
    return {"accuracy": WeightedSum.of(correct.astype(jnp.float32), weights)}


def _sum_over_parts(
    function: Callable[[_Collections, Batch, jax.Array], tuple[Any, _Collections]],
    parts: int,
    collections: _Collections,
    batch: Batch,
    key: jax.Array,
) -> tuple[Any, _Collections]:
    """Returns the summed results of a function of the parts of a batch, computed one by one."""
    if parts == 1:
        return function(collections, batch, key)
    rows = len(batch.weights)
    if rows % parts:
        raise ValueError(f"batch: expected a multiple of {parts} rows per device, got {rows}")
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
