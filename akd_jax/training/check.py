"""Checks a stage on the shapes of its inputs, before anything is compiled."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax

from akd_jax.host.errors import InputError
from akd_jax.host.files import reason
from akd_jax.models.network import Model
from akd_jax.training.frozen import split_frozen
from akd_jax.training.stage import Stage
from akd_jax.training.state import prepare_batch
from akd_jax.training.terms import evaluate_loss, explain_missing_names
from akd_jax.types import Batch, Clock, Head, Outputs, Teacher, TopK, Variables


@dataclasses.dataclass
class Reads:
    """What the loss of a stage reads of a teacher.

    Attributes:
      logits: whether it reads the logits.
      mask: whether it reads the mask of the tokens.
      head: whether it reads the last layer.
      features: the names of the features that it reads.
    """

    logits: bool = False
    mask: bool = False
    head: bool = False
    features: set[str] = dataclasses.field(default_factory=set)


def check_stage(
    stage: Stage, student: Model, teachers: Mapping[str, Teacher], batch: Batch
) -> dict[str, Reads]:
    """Traces what a stage does with a batch, without computing anything.

    Args:
      stage: the stage.
      student: the student; only the shapes of its variables matter.
      teachers: the teachers by name; only the shapes matter.
      batch: a batch; only the shapes matter.

    Returns:
      What the loss reads of each teacher, by name.

    Raises:
      InputError: the loss reads a teacher or a feature that does not exist, a term has weights
        of another shape than its values, `stage.prepare` changes shapes, or the student does not
        have what the stage freezes or an option of the stage.
    """
    reads = {name: Reads() for name in teachers}

    def trace(student: Model, teachers: Mapping[str, Teacher], batch: Batch) -> Any:
        key, clock = jax.random.key(0), Clock.at()
        batch = prepare_batch(stage.prepare, student, teachers, batch, clock, key)
        split_frozen(student.variables.get("params", {}), stage.frozen)
        _check_training_options(stage, student, batch)
        outputs = student(batch.inputs)
        observed: Any = {
            name: _ObservedOutputs(teacher(batch), reads[name])
            for name, teacher in teachers.items()
        }
        variables: Variables = {}
        if isinstance(stage.loss, nn.Module):
            keys = {"params": key, "loss": key}
            with explain_missing_names(outputs, observed):
                variables = stage.loss.init(keys, outputs, observed, batch, clock)
        return evaluate_loss(
            stage.loss, variables, outputs, observed, batch, clock, key=key, axis_name=None
        )

    try:
        jax.eval_shape(trace, student, dict(teachers), batch)
    except ValueError as error:
        raise InputError(f"stage {stage.name}: {reason(error)}") from error
    return reads


def _check_training_options(stage: Stage, student: Model, batch: Batch) -> None:
    """Raises ValueError if the student's module does not accept the options of a stage."""
    if not stage.training_options:
        return
    try:
        student.apply_fn(
            student.variables,
            batch.inputs,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=[name for name in student.variables if name != "params"],
            **stage.training_options,
        )
    except TypeError as error:
        raise ValueError(
            "training_options: expected keyword arguments of the student's module, got"
            f" {', '.join(stage.training_options)}: {reason(error)}; choose another network"
        ) from error


@jax.tree_util.register_pytree_node_class
class _ObservedOutputs:
    """The outputs of a teacher; notes what is read.

    If a loss passes the outputs through a transformation of JAX, the logits and all features
    count as read.
    """

    def __init__(self, outputs: Outputs, reads: Reads):
        self._outputs, self._reads = outputs, reads
        self.features = _ObservedFeatures(outputs.features, reads)

    @property
    def logits(self) -> jax.Array:
        self._reads.logits = True
        return self._outputs.logits

    @property
    def top_k(self) -> TopK | None:
        return self._outputs.top_k

    @property
    def mask(self) -> jax.Array | None:
        self._reads.mask = self._reads.mask or self._outputs.mask is not None
        return self._outputs.mask

    @property
    def head(self) -> Head | None:
        self._reads.head = self._reads.head or self._outputs.head is not None
        return self._outputs.head

    def replace(self, **changes: Any) -> Outputs:
        """Returns the outputs with changes, without notes."""
        return self._read_all().replace(**changes)

    def tree_flatten(self) -> tuple[tuple[Outputs], None]:
        return (self._read_all(),), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Outputs]) -> Outputs:
        del aux
        return children[0]

    def _read_all(self) -> Outputs:
        self._reads.logits = True
        self._reads.features.update(self._outputs.features)
        return self._outputs


@jax.tree_util.register_pytree_node_class
class _ObservedFeatures(Mapping[str, jax.Array]):
    """The features of a teacher; notes the names that are read."""

    def __init__(self, features: Mapping[str, jax.Array], reads: Reads):
        self._features, self._reads = features, reads

    def __getitem__(self, name: str) -> jax.Array:
        feature = self._features[name]
        self._reads.features.add(name)
        return feature

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def tree_flatten(self) -> tuple[tuple[dict[str, jax.Array]], None]:
        self._reads.features.update(self._features)
        return (dict(self._features),), None

    @classmethod
    def tree_unflatten(
        cls, aux: None, children: tuple[dict[str, jax.Array]]
    ) -> dict[str, jax.Array]:
        del aux
        return children[0]
