"""One update and one prediction: the only gradient and collective code.

The steps are pure functions of their arguments. They run under `jax.pmap` with the name
of its axis or, on a device that is alone, under `jax.jit` with axis_name=None, with the same
result for the same examples: losses are summed with their weights on each device, the
sums and the gradients of the sums are added over the devices, and only then divided. A mean
of the devices' means would be wrong as soon as one of them holds rows that only fill up the
batch.
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
    """One update of the student.

    Args:
      state: the student, its optimizer and its loss.
      teachers: name to teacher; a pytree, so that another teacher of the same shape does
        not recompile the step. Empty where the loss reads none.
      batch: this device's share, [B / devices, ...]; the whole batch where axis_name is None.
      temperature_step: k, an int32 scalar. Pass an array: each Python number would be
        compiled on its own.
      axis_name: the axis of the surrounding pmap.

    Returns:
      The state after the update, and the metrics of the batch before it, both the same on
      every device: 'loss', those of `label_metrics`, and 'nonfinite', 1 where the loss or a
      gradient is not finite. Such a step changes nothing where the state says so, and is then
      counted in no other metric.
    """
    key = jax.random.fold_in(state.key, state.step)
    key = jax.random.fold_in(key, 0 if axis_name is None else jax.lax.axis_index(axis_name))

    def gradients_of(
        model_state: Variables, batch: Batch, key: jax.Array
    ) -> tuple[Any, Variables, Metrics]:
        batch = state.augment(batch)
        # Outside of what is differentiated: no backward pass runs through a teacher.
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
                    f"expected a loss per example, of shape {batch.weights.shape}, got"
                    f" {values.shape}"
                )
            loss = WeightedSum.of(values, batch.weights)
            return loss.total, (changed_state, {"loss": loss, **label_metrics(outputs, batch)})

        gradients, aux = jax.grad(weighted_loss, has_aux=True)(state.params)
        return gradients, *aux

    gradients, model_state, metrics = _accumulate(
        gradients_of, state.grad_accumulation_steps, state.model_state, batch, key
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
    """Several updates, one after the other, in one program: `train_step` on each of K batches.

    Args:
      state: before the first update.
      teachers: as for `train_step`.
      batches: the shares of K batches, [K, B / devices, ...].
      temperature_step: of all of them.
      axis_name: the axis of the surrounding pmap.

    Returns:
      The state after the last update, and the metrics of each one, [K].
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(state, teachers, batch, temperature_step, axis_name=axis_name)

    # XLA gives no threads to what is in a loop on CPU: convolutions take 20 times as long there.
    unroll = len(batches.weights) if jax.default_backend() == "cpu" else 1
    return jax.lax.scan(update, state, batches, unroll=unroll)


def predict_step(
    model: Model,
    batch: Batch,
    *,
    augment: Augment = no_augmentation,
    axis_name: str | None = None,
) -> jax.Array:
    """Logits of a model, in inference mode.

    Args:
      model: what predicts.
      batch: this device's share, [B / devices, ...].
      augment: draws the views that the model sees.
      axis_name: not used; each device returns its share.

    Returns:
      float32 [B / devices, C].
    """
    del axis_name
    return model(augment(batch).inputs).logits.astype(jnp.float32)


def label_metrics(outputs: Outputs, batch: Batch) -> Metrics:
    """How far a batch's logits are from its labels, to be watched while training.

    'accuracy', the share of examples whose largest logit is the label's; for a regression
    'squared_error'. The task's own metrics are those of `akd_jax.metrics`.
    """
    if jnp.issubdtype(batch.labels.dtype, jnp.floating):
        errors = losses.squared_error(outputs.logits, batch.labels)
        return {"squared_error": WeightedSum.of(errors, batch.weights)}
    correct = jnp.argmax(outputs.logits, axis=-1) == batch.labels
    return {"accuracy": WeightedSum.of(correct.astype(jnp.float32), batch.weights)}


def _accumulate(
    gradients_of: Callable[[Variables, Batch, jax.Array], tuple[Any, Variables, Metrics]],
    parts: int,
    model_state: Variables,
    batch: Batch,
    key: jax.Array,
) -> tuple[Any, Variables, Metrics]:
    """The sums of gradients and metrics over the parts of a batch, one part after the other."""
    if parts == 1:
        return gradients_of(model_state, batch, key)
    rows = len(batch.weights)
    if rows % parts:
        raise ValueError(f"expected rows that {parts} parts divide, got {rows}")
    split = jax.tree.map(lambda x: x.reshape(parts, rows // parts, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], split)
    gradients, _, metrics = jax.eval_shape(gradients_of, model_state, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (gradients, metrics))

    def add(carry: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        sums, model_state = carry
        part_batch, number = part
        gradients, model_state, metrics = gradients_of(
            model_state, part_batch, jax.random.fold_in(key, number)
        )
        return (jax.tree.map(jnp.add, sums, (gradients, metrics)), model_state), None

    numbers = jnp.arange(parts)
    ((gradients, metrics), model_state), _ = jax.lax.scan(
        add, (zeros, model_state), (split, numbers)
    )
    return gradients, model_state, metrics
