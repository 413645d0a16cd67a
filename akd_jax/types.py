"""Core data types shared by all modules.

Shapes are given with letters: B examples of a batch, C classes (1 for a regression), L
tokens of a text.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct, traverse_util

from akd_jax.errors import InputError

if TYPE_CHECKING:  # The configuration needs pydantic, which losses and steps do not.
    from akd_jax.config import OptimizerConfig

Array = jax.Array | np.ndarray
Variables = Mapping[str, Any]  # Flax variables: {'params': ..., 'batch_stats': ...}.
LearningRate = Callable[[Any], Any]  # Optax schedule: update number to learning rate.


@dataclasses.dataclass(frozen=True)
class Task:
    """A prediction task: a classification or a regression.

    Attributes:
      labels: names of the classes, in the order of their indices; empty for a regression.
      metrics: names in `akd_jax.metrics.METRICS`; the first one selects the best checkpoint.
      codes: the labels as written in the task's files, if they differ from the names.
    """

    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    codes: tuple[str, ...] = ()

    @classmethod
    def numbered(cls, classes: int) -> "Task":
        """Returns a classification task whose classes are named by their indices."""
        return cls(tuple(map(str, range(classes))))

    @property
    def regression(self) -> bool:
        """Whether the task is a regression."""
        return not self.labels

    @property
    def outputs(self) -> int:
        """C, the number of logits of a network for this task."""
        return len(self.labels) or 1

    def format_prediction(self, prediction: float) -> str:
        """Returns a predicted class index or number in the format of the task's files."""
        names = self.codes or self.labels
        return names[int(prediction)] if names else f"{prediction:.3f}"

    @property
    def metric(self) -> str:
        """The metric that selects the best checkpoint; tables show it."""
        return self.metrics[0]


class Tokens(struct.PyTreeNode):
    """Tokenized texts, padded to the same length.

    Attributes:
      ids: token ids, int32 [B, L].
      token_type_ids: 0 for the first of two sentences, 1 for the second, int32 [B, L].
      lengths: number of tokens of each text, int32 [B]; the rest of a row is padding.
    """

    ids: Array
    token_type_ids: Array
    lengths: Array


class Batch(struct.PyTreeNode):
    """A batch of examples.

    Attributes:
      inputs: the model's inputs, an array [B, ...] or a tree of such arrays.
      labels: class indices, int32 [B]; or the target numbers of a regression, float32 [B].
      weights: weights of the examples, float32 [B]; 0 for padding rows of the last batch.
      ids: indices of the examples in their split, int32 [B].
      views: number of the augmented view of each example, int32 [B].
      epochs: number of finished epochs, int32 [B], the same in all rows.
      teacher_logits: teacher name to stored logits [B, C], for teachers not run in the step.
    """

    inputs: Any
    labels: Array
    weights: Array
    ids: Array | None = None
    views: Array | None = None
    epochs: Array | None = None
    teacher_logits: Mapping[str, Array] = dataclasses.field(default_factory=dict)


class Outputs(struct.PyTreeNode):
    """The outputs of a model.

    Attributes:
      logits: unnormalised scores [B, C].
      features: name to hidden representation [B, ...].
    """

    logits: jax.Array
    features: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


class WeightedSum(struct.PyTreeNode):
    """A weighted mean, stored as numerator and denominator so that it can be merged.

    The sums of two batches, devices or hosts add up to the sum over both, even if their
    weights differ. A mean of means would be wrong then.
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> "WeightedSum":
        """Returns the sum of `values` [B] weighted by `weights` [B]."""
        return cls(total=jnp.sum(values * weights), weight=jnp.sum(weights))

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> jax.Array:
        """Returns total / weight; NaN if the weight is 0."""
        return self.total / self.weight


Metrics = Mapping[str, WeightedSum]


class PackedMetrics(struct.PyTreeNode):
    """The metrics of one or several steps in one array, so that the host fetches them at once.

    Attributes:
      sums: total and weight of each metric, float32 [metrics, 2]; [K, metrics, 2] for K steps.
      names: names of the metrics.
    """

    sums: jax.Array
    names: tuple[str, ...] = struct.field(pytree_node=False)

    @classmethod
    def of(cls, metrics: Metrics) -> "PackedMetrics":
        """Packs metrics on the device."""
        rows = [
            jnp.stack([jnp.float32(x.total), jnp.float32(x.weight)], axis=-1)
            for x in metrics.values()
        ]
        return cls(jnp.stack(rows, axis=-2) if rows else jnp.zeros((0, 2)), tuple(metrics))

    def fetch(self) -> list[Metrics]:
        """Waits for the steps and returns the metrics of each step on the host."""
        sums = np.asarray(self.sums).reshape(-1, len(self.names), 2)
        return [
            {name: WeightedSum(*row) for name, row in zip(self.names, step, strict=True)}
            for step in sums
        ]


class ApplyFn(Protocol):
    """`flax.linen.Module.apply` of a module with the signature (inputs, train, axis_name)."""

    def __call__(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs; with `mutable`, also the collections that the module changed."""


class Preprocess(Protocol):
    """Preprocessing of raw inputs, such as normalisation."""

    def __call__(self, inputs: Any, /) -> Any:
        """Returns the inputs of the module."""


class Pretrained(Protocol):
    """A source of pretrained weights."""

    def __call__(self, shapes: Variables, /) -> Mapping[tuple[str, ...], Array]:
        """Returns the pretrained variables by their paths in the tree of all variables."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A module with its preprocessing and its initial weights.

    Attributes:
      module: maps preprocessed inputs to `Outputs`.
      preprocess: maps raw inputs to the inputs of the module.
      pretrained: the source of pretrained weights; None for random initial weights.
    """

    module: nn.Module
    preprocess: Preprocess
    pretrained: Pretrained | None = None

    def init(self, key: jax.Array, inputs: Any) -> Variables:
        """Returns random variables; only the shapes of the raw inputs matter."""
        return self.module.init(key, self.preprocess(inputs))

    def initial_variables(self, key: jax.Array, inputs: Any) -> Variables:
        """Returns the pretrained variables, and random ones where no pretrained ones exist."""
        if self.pretrained is None:
            return jax.jit(self.init)(key, inputs)
        stored = self.pretrained(jax.eval_shape(self.init, key, inputs))

        # Initialise only the variables that are missing from the checkpoint.
        def missing_variables(key: jax.Array, inputs: Any) -> Any:
            variables = traverse_util.flatten_dict(dict(self.init(key, inputs)))
            return {path: value for path, value in variables.items() if path not in stored}

        return traverse_util.unflatten_dict({**stored, **jax.jit(missing_variables)(key, inputs)})

    def apply(self, variables: Variables, inputs: Any, **kwargs: Any) -> Any:
        """Calls the module's `apply` on preprocessed raw inputs."""
        return self.module.apply(variables, self.preprocess(inputs), **kwargs)


class Model(struct.PyTreeNode):
    """Variables and the function that applies them in inference mode."""

    variables: Variables
    apply_fn: ApplyFn = struct.field(pytree_node=False)

    def __call__(self, inputs: Any) -> Outputs:
        """Maps inputs [B, ...] to outputs, without dropout and with running statistics."""
        return self.apply_fn(self.variables, inputs, train=False)


class Loss(Protocol):
    """A loss function that a stage minimises."""

    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        """Returns one value per example, float32 [B]; the temperature step is an int32 scalar."""


class Augment(Protocol):
    """An augmentation of training batches, applied before student and teachers read them."""

    def __call__(self, batch: Batch) -> Batch:
        """Returns the augmented batch, with the same shapes."""


def no_augmentation(batch: Batch) -> Batch:
    """Returns the batch unchanged."""
    return batch


class Teacher(Protocol):
    """A pytree that returns a teacher's outputs for a batch."""

    def __call__(self, batch: Batch) -> Outputs:
        """Returns the teacher's outputs for this device's share of a batch."""


class TrainState(struct.PyTreeNode):
    """The state that a training step reads and returns.

    The last six fields are static: a state with another loss or optimizer is compiled again.

    Attributes:
      step: number of updates in this stage, int32 [].
      params: the trainable parameters.
      model_state: the model's other collections, such as {'batch_stats': ...}.
      opt_state: the optimizer's state.
      key: PRNG key of the stage, or its key data; a step folds its number into it.
      apply_fn: the model's apply function.
      optimizer: maps gradients to updates.
      loss: the loss function.
      augment: changes the batch before student and teachers read it.
      grad_accumulation_steps: number of parts of a device's share of a batch. Their gradients
        are added, so that the activations of only one part are in memory at a time.
      skip_nonfinite: whether a step with a non-finite loss or gradient leaves the parameters
        and the optimizer unchanged.
    """

    step: jax.Array
    params: Any
    model_state: Variables
    opt_state: optax.OptState
    key: jax.Array
    apply_fn: ApplyFn = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    loss: Loss = struct.field(pytree_node=False)
    augment: Augment = struct.field(pytree_node=False, default=no_augmentation)
    grad_accumulation_steps: int = struct.field(pytree_node=False, default=1)
    skip_nonfinite: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def create(
        cls,
        apply_fn: ApplyFn,
        variables: Variables,
        *,
        optimizer: optax.GradientTransformation,
        loss: Loss,
        key: jax.Array,
        augment: Augment = no_augmentation,
        grad_accumulation_steps: int = 1,
        skip_nonfinite: bool = False,
    ) -> "TrainState":
        """Returns a state at step 0 with the given variables and a new optimizer state."""
        model_state = {name: value for name, value in variables.items() if name != "params"}
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            model_state=model_state,
            opt_state=optimizer.init(variables["params"]),
            key=key,
            apply_fn=apply_fn,
            optimizer=optimizer,
            loss=loss,
            augment=augment,
            grad_accumulation_steps=grad_accumulation_steps,
            skip_nonfinite=skip_nonfinite,
        )

    @property
    def model(self) -> Model:
        """The current model, for evaluation."""
        return Model(variables={"params": self.params, **self.model_state}, apply_fn=self.apply_fn)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a method, with its own loss, optimizer and temperature schedule.

    Attributes:
      name: the name of the stage and of its checkpoint folder.
      epochs: number of passes over the training split.
      loss: the loss function.
      optimizer: settings of the optimizer; each stage starts with a new optimizer state.
      max_temperature: tau_max; the temperature falls from tau_max to 1 over the epochs. Use 1
        for losses that ignore the temperature step.
      start: name of the stage whose best student this stage starts from; None for the
        student's initial parameters.
      teachers: names of the teachers whose outputs the loss reads.
      temperature: the constant temperature of a loss that does not anneal; None for other losses.
    """

    name: str
    epochs: int
    loss: Loss
    optimizer: "OptimizerConfig"
    max_temperature: int = 1
    start: str | None = None
    teachers: tuple[str, ...] = ()
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(
                f"{self.name}: expected at least 1 epoch, got {self.epochs}; set more epochs"
            )
        if not 1 <= self.max_temperature <= self.epochs:
            raise InputError(
                f"{self.name}: expected a max_temperature (tau_max) from 1 to its {self.epochs}"
                f" epochs, got {self.max_temperature}; each temperature needs at least one epoch"
            )


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: stages in order. The best student of the last stage is the result."""

    name: str
    stages: tuple[Stage, ...]

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of all teachers of the stages, in order of first use."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.teachers))

    @property
    def epochs(self) -> int:
        """Total number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


class MethodBuilder(Protocol):
    """A function that builds a method from a run's configuration."""

    def __call__(self, config: Any) -> Method:
        """Returns the method; raises InputError if the settings do not fit the method."""
