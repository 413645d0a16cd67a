"""One update and one evaluation: the only gradient and collective code.

Both steps are pure functions of their arguments. They run under `jax.pmap` with the name
of its axis, or under plain `jax.jit` with axis_name=None, with the same result for the
same examples: losses are summed with their weights on each device, the sums and the
gradients of the sums are added over the devices, and only then divided. A mean of the
devices' means would be wrong as soon as one of them holds rows that only fill up the batch.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from akd_jax.types import (
    Augment,
    Batch,
    Metrics,
    Model,
    Outputs,
    Teacher,
    TrainState,
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
      The state after the update, and the metrics 'loss' and 'accuracy' of the batch before
      it; both the same on every device.
    """
    key = jax.random.fold_in(state.key, state.step)
    key = jax.random.fold_in(key, 0 if axis_name is None else jax.lax.axis_index(axis_name))
    batch = state.augment(batch)
    # Outside of what is differentiated: no backward pass runs through a teacher.
    teacher_outputs = {name: teacher(batch) for name, teacher in teachers.items()}

    def weighted_loss(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
        outputs, model_state = state.apply_fn(
            {"params": params, **state.model_state},
            batch.inputs,
            train=True,
            axis_name=axis_name,
            rngs={"dropout": key},
            mutable=list(state.model_state),
        )
        losses = state.loss(outputs, teacher_outputs, batch, temperature_step)
        if losses.shape != batch.weights.shape:
            raise ValueError(
                f"expected a loss per example, of shape {batch.weights.shape}, got {losses.shape}"
            )
        metrics = {"loss": WeightedSum.of(losses, batch.weights), **task_metrics(outputs, batch)}
        return metrics["loss"].total, (model_state, metrics)

    gradients, (model_state, metrics) = jax.grad(weighted_loss, has_aux=True)(state.params)
    if axis_name is not None:
        gradients, metrics = jax.lax.psum((gradients, metrics), axis_name)
    weight = metrics["loss"].weight
    scale = jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)
    gradients = jax.tree.map(lambda gradient: gradient * scale, gradients)

    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        opt_state=opt_state,
    )
    return state, metrics


def eval_step(model: Model, batch: Batch, *, axis_name: str | None = None) -> Metrics:
    """Metrics of a model on a batch, in inference mode.

    Args:
      model: what is evaluated, student or teacher.
      batch: this device's share, [B / devices, ...].
      axis_name: the axis of the surrounding pmap.

    Returns:
      The metric 'accuracy', the same on every device.
    """
    metrics = task_metrics(model(batch.inputs), batch)
    return metrics if axis_name is None else jax.lax.psum(metrics, axis_name)


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


def task_metrics(outputs: Outputs, batch: Batch) -> Metrics:
    """The task's metrics: 'accuracy', the share of examples whose largest logit is the label's."""
    correct = jnp.argmax(outputs.logits, axis=-1) == batch.labels
    return {"accuracy": WeightedSum.of(correct.astype(jnp.float32), batch.weights)}
