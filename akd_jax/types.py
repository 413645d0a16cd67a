"""The words every other file speaks.

Shapes are given with letters: B examples of a batch, C classes (1 for a regression), L
tokens of a text.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct, traverse_util

from akd_jax.config import OptimizerConfig
from akd_jax.errors import InputError

Array = jax.Array | np.ndarray
Variables = Mapping[str, Any]  # Flax's: {'params': ..., 'batch_stats': ...}.
LearningRate = Callable[[Any], Any]  # Optax's schedule: update number to learning rate.


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Attributes:
      labels: names of the classes, in the order of their indices; none: a number is to be
        predicted, a regression.
      metrics: names in `akd_jax.metrics.METRICS`; the first one chooses the checkpoint.
      codes: the labels as the task's files write them, where these are others.
    """

    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    codes: tuple[str, ...] = ()

    @classmethod
    def numbered(cls, classes: int) -> "Task":
        """A classification whose classes are named by their indices."""
        return cls(tuple(map(str, range(classes))))

    @property
    def regression(self) -> bool:
        """Whether a number is to be predicted."""
        return not self.labels

    @property
    def outputs(self) -> int:
        """C: the logits of a network for this task."""
        return len(self.labels) or 1

    def format_prediction(self, prediction: float) -> str:
        """A predicted index, or number, as the task's files write it."""
        names = self.codes or self.labels
        return names[int(prediction)] if names else f"{prediction:.3f}"

    @property
    def metric(self) -> str:
        """The metric that chooses the checkpoint, and stands for the others in tables."""
        return self.metrics[0]


class Tokens(struct.PyTreeNode):
    """Texts as a network with a vocabulary reads them, filled up to one length.

    Attributes:
      ids: of the tokens, int32 [B, L].
      token_type_ids: 0 for the first of two sentences, 1 for the second, int32 [B, L].
      lengths: tokens of each text; what follows them is padding, int32 [B].
    """

    ids: Array
    token_type_ids: Array
    lengths: Array


class Batch(struct.PyTreeNode):
    """Examples on their way through a step.

    Attributes:
      inputs: what the model reads; an array [B, ...] or a tree of such arrays.
      labels: class indices, int32 [B]; or the numbers of a regression, float32 [B].
      weights: float32 [B]; 0 for the rows that only fill up the last batch.
      ids: which examples of their split these are, int32 [B].
      views: which view of each example is drawn where they are augmented, int32 [B].
      epochs: epochs of the run that are finished, int32 [B], the same in all rows.
      teacher_logits: stored logits [B, C] of teachers that are not run in the step, by name.
    """

    inputs: Any
    labels: Array
    weights: Array
    ids: Array | None = None
    views: Array | None = None
    epochs: Array | None = None
    teacher_logits: Mapping[str, Array] = dataclasses.field(default_factory=dict)


class Outputs(struct.PyTreeNode):
    """What a model returns.

    Attributes:
      logits: unnormalised scores [B, C].
      features: hidden representations by name, each [B, ...].
    """

    logits: jax.Array
    features: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


class WeightedSum(struct.PyTreeNode):
    """A mean kept as numerator and denominator, so that it can still be merged.

    Adding the sums of two batches, devices or hosts gives the sum of both, however
    unequal their weights; a mean of means would not.
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> "WeightedSum":
        """Sums `values` [B] with `weights` [B]."""
        return cls(total=jnp.sum(values * weights), weight=jnp.sum(weights))

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> jax.Array:
        """Total / weight; nan where nothing was summed."""
        return self.total / self.weight


Metrics = Mapping[str, WeightedSum]


class PackedMetrics(struct.PyTreeNode):
    """The metrics of a step in one array, which the host fetches at once.

    Attributes:
      sums: total and weight of each metric, float32 [..., metrics, 2]; of several steps [K, ...].
      names: of the metrics.
    """

    sums: jax.Array
    names: tuple[str, ...] = struct.field(pytree_node=False)

    @classmethod
    def of(cls, metrics: Metrics) -> "PackedMetrics":
        """Packs metrics, on the device."""
        rows = [
            jnp.stack([jnp.float32(x.total), jnp.float32(x.weight)], axis=-1)
            for x in metrics.values()
        ]
        return cls(jnp.stack(rows, axis=-2) if rows else jnp.zeros((0, 2)), tuple(metrics))

    def fetch(self) -> list[Metrics]:
        """Waits for the steps; the metrics of each one, on the host."""
        sums = np.asarray(self.sums).reshape(-1, len(self.names), 2)
        return [
            {name: WeightedSum(*row) for name, row in zip(self.names, step, strict=True)}
            for step in sums
        ]


class ApplyFn(Protocol):
    """`flax.linen.Module.apply` of a module called as `module(inputs, train=, axis_name=)`."""

    def __call__(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """The module's outputs; with `mutable`, also the collections it changed."""


class Preprocess(Protocol):
    """A change of raw inputs before a network reads them, such as normalisation."""

    def __call__(self, inputs: Any, /) -> Any:
        """The inputs as the network reads them."""


class Pretrained(Protocol):
    """Weights that a network starts from."""

    def __call__(self, shapes: Variables, /) -> Mapping[tuple[str, ...], Array]:
        """The variables that were pretrained, by their paths in the tree of all variables."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A module that reads raw inputs, and what it starts from.

    Attributes:
      module: maps inputs to `Outputs`.
      preprocess: raw inputs to those of the module.
      pretrained: the weights that it starts from; None: random ones.
    """

    module: nn.Module
    preprocess: Preprocess
    pretrained: Pretrained | None = None

    def init(self, key: jax.Array, inputs: Any) -> Variables:
        """Random variables, by the shapes of raw inputs."""
        return self.module.init(key, self.preprocess(inputs))

    def initial_variables(self, key: jax.Array, inputs: Any) -> Variables:
        """The variables that training starts from: the pretrained ones, and random others."""
        if self.pretrained is None:
            return jax.jit(self.init)(key, inputs)
        stored = self.pretrained(jax.eval_shape(self.init, key, inputs))

        def others(key: jax.Array, inputs: Any) -> Any:  # Alone, so that no more is drawn.
            variables = traverse_util.flatten_dict(dict(self.init(key, inputs)))
            return {path: value for path, value in variables.items() if path not in stored}

        return traverse_util.unflatten_dict({**stored, **jax.jit(others)(key, inputs)})

    def apply(self, variables: Variables, inputs: Any, **kwargs: Any) -> Any:
        """As the module's `apply`, on raw inputs."""
        return self.module.apply(variables, self.preprocess(inputs), **kwargs)


class Model(struct.PyTreeNode):
    """Weights together with the function that applies them, in inference mode."""

    variables: Variables
    apply_fn: ApplyFn = struct.field(pytree_node=False)

    def __call__(self, inputs: Any) -> Outputs:
        """Maps inputs [B, ...] to outputs; dropout is off, statistics are the running ones."""
        return self.apply_fn(self.variables, inputs, train=False)


class Loss(Protocol):
    """What a stage minimises: one value per example, float32 [B]."""

    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        temperature_step: jax.Array,
    ) -> jax.Array:
        """The losses of a batch at a temperature step, int32 []."""


class Augment(Protocol):
    """A change of a training batch that every model of the step sees."""

    def __call__(self, batch: Batch) -> Batch:
        """The batch as it is trained on; of the same shapes."""


def no_augmentation(batch: Batch) -> Batch:
    """The batch as it is."""
    return batch


class Teacher(Protocol):
    """A pytree that gives a teacher's outputs for a batch."""

    def __call__(self, batch: Batch) -> Outputs:
        """The teacher's outputs for this device's share of a batch."""


class TrainState(struct.PyTreeNode):
    """Everything a training step reads and returns.

    The last six fields are constants of the compiled program: a state with another
    loss or optimizer is another program.

    Attributes:
      step: updates made so far in this stage, int32 [].
      params: the parameters that are trained.
      model_state: the model's other collections, such as {'batch_stats': ...}.
      opt_state: the optimizer's state.
      key: PRNG key of the stage, or its data; a step folds its number into it.
      apply_fn: the model's function.
      optimizer: gradients to updates.
      loss: what is minimised.
      augment: changes the batch before student and teachers see it.
      grad_accumulation_steps: parts that a device's share of a batch is cut into; their gradients
        are added, so that only one part's activations are in memory at a time.
      skip_nonfinite: whether a step whose loss or gradients are not finite changes nothing.
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
        """A state at step 0 that starts from `variables` with a fresh optimizer."""
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
        """The model as it stands now, for evaluation."""
        return Model(variables={"params": self.params, **self.model_state}, apply_fn=self.apply_fn)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a method with a loss, an optimizer and a temperature schedule of its own.

    Attributes:
      name: also the name of its folder of checkpoints.
      epochs: passes over the training split.
      loss: what is minimised.
      optimizer: its settings; each stage starts with a fresh optimizer.
      max_temperature: tau_max; the temperature falls from it to 1 over the epochs. 1 for
        losses that ignore the temperature step.
      start: the stage whose best student this one starts from; None for the student's
        initial parameters.
      teachers: names of the teachers whose outputs the loss reads.
      temperature: the constant temperature of a loss that does not anneal; None for other losses.
    """

    name: str
    epochs: int
    loss: Loss
    optimizer: OptimizerConfig
    max_temperature: int = 1
    start: str | None = None
    teachers: tuple[str, ...] = ()
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(
                f"{self.name}: expected at least 1 epoch, got {self.epochs}; raise the epochs"
            )
        if not 1 <= self.max_temperature <= self.epochs:
            raise InputError(
                f"{self.name}: expected a max_temperature (tau_max) from 1 to its {self.epochs}"
                f" epochs, got {self.max_temperature}; each temperature needs an epoch of its own"
            )


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train a student: its stages, in order. The last one's best student is the result."""

    name: str
    stages: tuple[Stage, ...]

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of all teachers that the stages read, in order of first use."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.teachers))

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)


class MethodBuilder(Protocol):
    """Makes a method from a run's settings; raises InputError where they do not fit it."""

    def __call__(self, config: Any) -> Method:
        """The method that the settings describe."""
