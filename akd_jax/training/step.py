"""Training step and prediction step, which run on each device.

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
from akd_jax.losses.binding import value_weights
from akd_jax.models.network import Model
from akd_jax.training import terms as loss_terms
from akd_jax.training.frozen import inference_mode, merge_frozen
from akd_jax.training.gradients import gradients_of
from akd_jax.training.maxima import argmax, is_argmax
from akd_jax.training.state import TrainState, prepare_batch, update_loss, update_student
from akd_jax.training.terms import learns_after_update
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
      of `label_metrics` and `teacher_agreement`; and 'nonfinite', which is 1 if the loss or a
      gradient is not finite. The terms of a loss that learns after the update are those of the
      updated student.
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
        steps_per_epoch=jnp.int32(state.steps_per_epoch),
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
    ) -> tuple[dict[str, Term], Metrics, _Collections]:
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
        metrics = {
            **label_metrics(outputs, batch),
            **teacher_agreement(outputs, teacher_outputs, batch),
        }
        return terms, metrics, (model_state, loss_state)

    gradients, metrics, (model_state, loss_state) = gradients_of(
        evaluate,
        state.params,
        (state.model_state, state.loss_state),
        teachers,
        batch,
        key,
        parts=state.grad_accumulation_steps,
        axis_name=axis_name,
    )
    # The shares of the loss add up to the loss of the batch. Its weight is that of the examples.
    loss = metrics["loss"]
    metrics = {**metrics, "loss": WeightedSum(loss.total * loss.weight, loss.weight)}
    updated = update_student(state, gradients["student"]).replace(
        model_state=model_state, loss_state=loss_state
    )
    if learns_after_update(state.loss):
        student = updated.model

        def evaluate_again(
            params: Any,
            loss_state: Variables,
            batch: Batch,
            teacher_outputs: Mapping[str, Outputs],
            key: jax.Array,
        ) -> tuple[dict[str, Term], Metrics, Variables]:
            """Applies the updated student, and the loss that learns from it, to a part."""
            terms, loss_state = loss_terms.evaluate_loss(
                state.loss,
                {"params": params, **loss_state},
                student(batch.inputs),
                teacher_outputs,
                batch,
                clock,
                key=jax.random.fold_in(key, _LOSS_KEY),
                axis_name=axis_name,
                updated=student,
            )
            return terms, {}, loss_state

        of_loss, others, loss_state = gradients_of(
            evaluate_again,
            state.params["loss"],
            loss_state,
            teachers,
            batch,
            key,
            parts=state.grad_accumulation_steps,
            axis_name=axis_name,
        )
        gradients["loss"] = jax.tree.map(jnp.add, gradients["loss"], of_loss)
        # 'loss' is that of the student.
        metrics |= {name: value for name, value in others.items() if name != "loss"}
        updated = updated.replace(loss_state=loss_state)
    updated = update_loss(updated, gradients["loss"])
    finite = jnp.isfinite(loss.total) & jnp.isfinite(optax.tree.norm(gradients))
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
        errors = losses.squared_error(outputs.logits, batch.filled_labels)
        return {"squared_error": WeightedSum.of(errors, weights)}
    correct = is_argmax(outputs.logits, labels)
    return {"accuracy": WeightedSum.of(correct.astype(jnp.float32), weights)}


def teacher_agreement(outputs: Outputs, teachers: Mapping[str, Outputs], batch: Batch) -> Metrics:
    """Returns 'agreement', the share of the examples that student and teacher put in one class.

    There is no metric without exactly one teacher that has the student's classes, and none for
    tokens.

    Args:
      outputs: the student's outputs.
      teachers: the teachers' outputs by name.
      batch: the batch, for the weights of its examples.
    """
    shape = outputs.logits.shape
    alike = [teacher.logits for teacher in teachers.values() if teacher.logits.shape == shape]
    if len(alike) != 1 or len(shape) != 2 or shape[-1] < 2:
        return {}
    same = is_argmax(outputs.logits, argmax(alike[0]))
    return {"agreement": WeightedSum.of(same.astype(jnp.float32), batch.weights)}
