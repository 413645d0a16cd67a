"""The state of a stage that a training step reads and returns."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from akd_jax.models.network import ApplyFn, Model
from akd_jax.training.frozen import merge_frozen, split_frozen
from akd_jax.training.terms import explain_missing_names
from akd_jax.types import Batch, Clock, Loss, Outputs, Teacher, Variables


class Prepare(Protocol):
    """A change of a batch on the device, before teachers, student and loss read it.

    Examples are random views of images, masks of spans, and prefixes that the student writes.
    """

    def __call__(
        self,
        student: Model,
        teachers: Mapping[str, Teacher],
        batch: Batch,
        clock: Clock,
        key: jax.Array,
    ) -> Batch:
        """Returns a batch of the same shapes and types; it is not differentiated.

        It may add arrays [B, ...] to `batch.extra`, for the loss.

        The key is the same on all devices and differs between updates. Folding in the ids of the
        examples gives numbers that do not depend on the batch or on the number of devices.
        """


class TrainState(struct.PyTreeNode):
    """The state that a training step reads and returns.

    The last ten fields are static: a state with another loss or optimizer is compiled again.

    Attributes:
      step: number of updates in this stage, int32 [].
      params: the trainable parameters, {'student': ..., 'loss': ...}.
      frozen: the student's parameters that keep their values, with their place in its tree.
      model_state: the student's other collections, such as {'batch_stats': ...}.
      loss_state: the other collections of a loss that is a module.
      opt_state: the states of the two optimizers, {'student': ..., 'loss': ...}.
      key: PRNG key of the stage, or its key data; a step folds its number into it.
      apply_fn: the student's apply function.
      training_options: further keyword arguments of the apply function in training, as pairs.
      frozen_paths: the paths of the frozen submodules and parameters.
      optimizer: maps gradients of the student's parameters to updates.
      loss_optimizer: the same for the parameters of the loss.
      loss: the loss, a function or a Flax module.
      prepare: changes the batch before teachers and student read it; None to use it as it is.
      steps_per_epoch: number of updates per epoch, for the clock.
      grad_accumulation_steps: number of parts of a device's share of a batch. Their gradients
        are added, so that the activations of only one part are in memory at a time.
      skip_nonfinite: whether a step with a non-finite loss or gradient leaves everything but
        the step number unchanged.
    """

    step: jax.Array
    params: Any
    frozen: Any
    model_state: Variables
    loss_state: Variables
    opt_state: Mapping[str, optax.OptState]
    key: jax.Array
    apply_fn: ApplyFn = struct.field(pytree_node=False)
    training_options: tuple[tuple[str, Any], ...] = struct.field(pytree_node=False)
    frozen_paths: tuple[str, ...] = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    loss_optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    loss: Loss = struct.field(pytree_node=False)
    prepare: Prepare | None = struct.field(pytree_node=False)
    steps_per_epoch: int = struct.field(pytree_node=False)
    grad_accumulation_steps: int = struct.field(pytree_node=False)
    skip_nonfinite: bool = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        apply_fn: ApplyFn,
        variables: Variables,
        *,
        optimizer: optax.GradientTransformation,
        loss: Loss,
        key: jax.Array,
        steps_per_epoch: int,
        loss_variables: Variables | None = None,
        loss_optimizer: optax.GradientTransformation | None = None,
        prepare: Prepare | None = None,
        frozen: Sequence[str] = (),
        training_options: Mapping[str, Any] | None = None,
        grad_accumulation_steps: int = 1,
        skip_nonfinite: bool = False,
    ) -> "TrainState":
        """Returns a state at step 0 with new states of the optimizers.

        Args:
          apply_fn: the student's apply function.
          variables: the student's variables.
          optimizer: the optimizer of the student's parameters.
          loss: the loss.
          key: PRNG key of the stage.
          steps_per_epoch: number of updates per epoch.
          loss_variables: the variables of a loss that has some, from `init_loss`.
          loss_optimizer: the optimizer of the loss's parameters; None for the same as the
            student's.
          prepare: changes each batch.
          frozen: the paths of the student's submodules or parameters that keep their values, the
            names on the way to them joined by '/'.
          training_options: further keyword arguments of the apply function in training.
          grad_accumulation_steps: number of parts of a device's share of a batch.
          skip_nonfinite: whether steps that are not finite change nothing.
        """
        student_params, model_state = _split(variables)
        student_params, frozen_params = split_frozen(student_params, frozen)
        loss_params, loss_state = _split(loss_variables or {})
        loss_optimizer = loss_optimizer or optimizer
        return cls(
            step=jnp.zeros((), jnp.int32),
            params={"student": student_params, "loss": loss_params},
            frozen=frozen_params,
            model_state=model_state,
            loss_state=loss_state,
            opt_state={
                "student": optimizer.init(student_params),
                "loss": loss_optimizer.init(loss_params) if loss_params else optax.EmptyState(),
            },
            key=key,
            apply_fn=apply_fn,
            training_options=tuple((training_options or {}).items()),
            frozen_paths=tuple(frozen),
            optimizer=optimizer,
            loss_optimizer=loss_optimizer,
            loss=loss,
            prepare=prepare,
            steps_per_epoch=steps_per_epoch,
            grad_accumulation_steps=grad_accumulation_steps,
            skip_nonfinite=skip_nonfinite,
        )

    @property
    def model(self) -> Model:
        """The current student, for evaluation."""
        params = merge_frozen(self.params["student"], self.frozen)
        return Model(variables={"params": params, **self.model_state}, apply_fn=self.apply_fn)

    @property
    def loss_variables(self) -> Variables:
        """The current variables of the loss; {} for a function."""
        if not self.params["loss"]:
            return self.loss_state
        return {"params": self.params["loss"], **self.loss_state}


def update_student(state: TrainState, gradients: Any) -> TrainState:
    """Returns the state after an update of the student's parameters."""
    return _update(state, "student", state.optimizer, gradients)


def update_loss(state: TrainState, gradients: Any) -> TrainState:
    """Returns the state after an update of the parameters of the loss."""
    return _update(state, "loss", state.loss_optimizer, gradients)


def _update(
    state: TrainState, name: str, optimizer: optax.GradientTransformation, gradients: Any
) -> TrainState:
    """Returns the state after an update of the parameters of this name."""
    params = state.params[name]
    if not params:
        return state
    updates, opt_state = optimizer.update(gradients, state.opt_state[name], params)
    return state.replace(
        params={**state.params, name: optax.apply_updates(params, updates)},
        opt_state={**state.opt_state, name: opt_state},
    )


def prepare_batch(
    prepare: Prepare | None,
    student: Model,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    clock: Clock,
    key: jax.Array,
) -> Batch:
    """Returns the batch that teachers, student and loss read.

    Raises:
      ValueError: `prepare` changes the shape or the type of an array.
    """
    if prepare is None:
        return batch
    prepared = prepare(student, teachers, batch, clock, key)
    for path, expected, actual in changed_shapes(batch, prepared.replace(extra=batch.extra)):
        raise ValueError(
            f"prepare: expected batch{path} to stay {expected}, got {actual}; pad to a fixed shape"
            " and set weights to 0"
        )
    return prepared


def init_loss(
    loss: Loss,
    key: jax.Array,
    student: Model,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    prepare: Prepare | None = None,
) -> Variables:
    """Returns the initial variables of a loss; {} for a function, which has none.

    The module is called once, on outputs of zeros. It must not update its state in this call:
    `self.is_initializing()` is true.

    Args:
      loss: the loss.
      key: PRNG key of the initial variables.
      student: the student; only the shapes of its outputs matter.
      teachers: the teachers by name; only the shapes of their outputs matter.
      batch: a batch; only its shapes matter.
      prepare: changes the batch before student, teachers and loss read it.

    Raises:
      InputError: the loss reads a teacher or a feature that does not exist.
    """
    if not isinstance(loss, nn.Module):
        return {}

    def inputs_of_loss(student: Model, batch: Batch) -> tuple[Outputs, dict[str, Outputs], Batch]:
        batch = prepare_batch(prepare, student, teachers, batch, Clock.at(), jax.random.key(0))
        outputs = {name: teacher(batch) for name, teacher in teachers.items()}
        return student(batch.inputs), outputs, batch

    shapes = jax.eval_shape(inputs_of_loss, student, batch)

    def init(keys: dict[str, jax.Array]) -> Variables:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return loss.init(keys, *zeros, Clock.at())

    # Compiled, so that the zeros that the loss does not read take no memory.
    with explain_missing_names(*shapes[:2]):
        return jax.jit(init)({"params": key, "loss": key})


def _split(variables: Variables) -> tuple[Any, dict[str, Any]]:
    """Returns the parameters and the other collections."""
    others = {name: value for name, value in variables.items() if name != "params"}
    return variables.get("params", {}), others


def changed_shapes(before: Any, after: Any) -> list[tuple[str, str, str]]:
    """Returns the path, and the type and shape in both trees, of each array that differs in them.

    An array that does not exist is 'absent' in the first tree, and 'none' in the second.
    """
    old, new = _array_shapes(before), _array_shapes(after)
    return [
        (path, old.get(path, "absent"), new.get(path, "none"))
        for path in {**old, **new}
        if old.get(path) != new.get(path)
    ]


def _array_shapes(tree: Any) -> dict[str, str]:
    """Returns the type and shape of each array by its path."""
    return {
        jax.tree_util.keystr(path): f"{jnp.result_type(x)}{list(jnp.shape(x))}"
        for path, x in jax.tree.leaves_with_path(tree)
    }
