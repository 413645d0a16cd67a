"""Training step and prediction step: the only code with gradients and collectives.

The steps are pure functions. They run under `jax.pmap` with the name of its axis, or on a
single device under `jax.jit` with axis_name=None. The results are the same for the same
examples: each device sums the weighted losses, the sums and their gradients are added over the
devices, and the total is divided by the total weight. A mean of the devices' means would be
wrong if a device has padding rows.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from akd_jax import losses
from akd_jax.types import (
    Augment,
    Batch,
    Metrics,
    Model,
    Outputs,
    Teacher,
    TrainState,
    Variables,
    WeightedSum,
    no_augmentation,
)


def train_step(
    state: TrainState,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    temperature_step: jax.Array,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Updates the student once.

    Args:
      state: the student, its optimizer and its loss.
      teachers: name to teacher; empty if the loss reads no teacher. It is a pytree, so that
        another teacher of the same shape does not recompile the step.
      batch: this device's share, [B / devices, ...]; the whole batch if axis_name is None.
      temperature_step: k, an int32 scalar array. Each Python number would be compiled
        separately under `jax.pmap`.
      axis_name: the axis of the surrounding pmap; None without pmap.

    Returns:
      The new state, and the metrics of the batch before the update. Both are the same on every
      device. The metrics are 'loss', those of `label_metrics`, and 'nonfinite', which is 1 if
      the loss or a gradient is not finite. With `state.skip_nonfinite`, such a step changes
      only the step number and has weight 0 in the other metrics.

    Raises:
      ValueError: the loss does not return one value per example, or the number of rows is not
        a multiple of `state.grad_accumulation_steps`.
    """
    key = jax.random.fold_in(state.key, state.step)
    key = jax.random.fold_in(key, 0 if axis_name is None else jax.lax.axis_index(axis_name))

    def compute_gradients(
        model_state: Variables, batch: Batch, key: jax.Array
    ) -> tuple[Any, Variables, Metrics]:
        batch = state.augment(batch)
        # Run the teachers outside the differentiated function: no backward pass needs them.
        teacher_outputs = {name: teacher(batch) for name, teacher in teachers.items()}

        def weighted_loss(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
            outputs, changed_state = state.apply_fn(
                {"params": params, **model_state},
                batch.inputs,
                train=True,
                axis_name=axis_name,
                rngs={"dropout": key},
                mutable=list(model_state),
            )
            values = state.loss(outputs, teacher_outputs, batch, temperature_step)
            if values.shape != batch.weights.shape:
                raise ValueError(
                    f"loss: expected one value per example, shape {batch.weights.shape}, got"
                    f" shape {values.shape}"
                )
            loss = WeightedSum.of(values, batch.weights)
            return loss.total, (changed_state, {"loss": loss, **label_metrics(outputs, batch)})

        gradients, aux = jax.grad(weighted_loss, has_aux=True)(state.params)
        return gradients, *aux

    gradients, model_state, metrics = _accumulate(
        compute_gradients, state.grad_accumulation_steps, state.model_state, batch, key
    )
    if axis_name is not None:
        gradients, metrics = jax.lax.psum((gradients, metrics), axis_name)
    weight = metrics["loss"].weight
    scale = jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)
    gradients = jax.tree.map(lambda gradient: gradient * scale, gradients)

    finite = jnp.isfinite(metrics["loss"].total) & jnp.isfinite(optax.tree.norm(gradients))
    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    updated = state.replace(
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        opt_state=opt_state,
    )
    if state.skip_nonfinite:
        updated = jax.tree.map(functools.partial(jnp.where, finite), updated, state)
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
    augment: Augment = no_augmentation,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the logits of a model in inference mode.

    Args:
      model: the model.
      batch: this device's share, [B / devices, ...].
      augment: changes the batch before the model reads it.
      axis_name: not used; each device returns the logits of its share.

    Returns:
      float32 [B / devices, C].
    """
    del axis_name
    return model(augment(batch).inputs).logits.astype(jnp.float32)


def label_metrics(outputs: Outputs, batch: Batch) -> Metrics:
    """Returns the training metric of a batch: 'accuracy', or 'squared_error' for a regression.

    The metrics of the task over a whole split are in `akd_jax.metrics`.
    """
    if jnp.issubdtype(batch.labels.dtype, jnp.floating):
        errors = losses.squared_error(outputs.logits, batch.labels)
        return {"squared_error": WeightedSum.of(errors, batch.weights)}
    correct = jnp.argmax(outputs.logits, axis=-1) == batch.labels
    return {"accuracy": WeightedSum.of(correct.astype(jnp.float32), batch.weights)}


def _accumulate(
    compute_gradients: Callable[[Variables, Batch, jax.Array], tuple[Any, Variables, Metrics]],
    parts: int,
    model_state: Variables,
    batch: Batch,
    key: jax.Array,
) -> tuple[Any, Variables, Metrics]:
    """Returns gradients and metrics summed over the parts of a batch, computed one by one."""
    if parts == 1:
        return compute_gradients(model_state, batch, key)
    rows = len(batch.weights)
    if rows % parts:
        raise ValueError(f"batch: expected a multiple of {parts} rows per device, got {rows}")
    split = jax.tree.map(lambda x: x.reshape(parts, rows // parts, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], split)
    gradients, _, metrics = jax.eval_shape(compute_gradients, model_state, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (gradients, metrics))

    def add(carry: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        sums, model_state = carry
        part_batch, number = part
        gradients, model_state, metrics = compute_gradients(
            model_state, part_batch, jax.random.fold_in(key, number)
        )
        return (jax.tree.map(jnp.add, sums, (gradients, metrics)), model_state), None

    numbers = jnp.arange(parts)
    ((gradients, metrics), model_state), _ = jax.lax.scan(
        add, (zeros, model_state), (split, numbers)
    )
    return gradients, model_state, metrics
