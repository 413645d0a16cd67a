"""Checks a stage on the shapes of its inputs, before anything is compiled."""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax

from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.training.stage import Stage
from akd_jax.training.state import prepare_batch
from akd_jax.training.terms import evaluate_loss
from akd_jax.types import Batch, Clock, Teacher, Variables


def check_stage(
    stage: Stage, student: Model, teachers: Mapping[str, Teacher], batch: Batch
) -> dict[str, tuple[str, ...]]:
    """Traces what a stage does with a batch, without computing anything.

    Args:
      stage: the stage.
      student: the student; only the shapes of its variables matter.
      teachers: the teachers by name; only the shapes matter.
      batch: a batch; only the shapes matter.

    Returns:
      The names of the features that the loss reads, by teacher.

    Raises:
      InputError: the loss reads a teacher or a feature that does not exist, a term has weights
        of another shape than its values, or `stage.prepare` changes shapes.
    """
    read: dict[str, dict[str, None]] = {name: {} for name in teachers}

    def trace(student: Model, teachers: Mapping[str, Teacher], batch: Batch) -> Any:
        key, clock = jax.random.key(0), Clock.at()
        batch = prepare_batch(stage.prepare, student, teachers, batch, clock, key)
        outputs = student(batch.inputs)
        recorded = {}
        for name, teacher in teachers.items():
            teacher_outputs = teacher(batch)
            features = _Recorder(teacher_outputs.features, read[name])
            recorded[name] = teacher_outputs.replace(features=features)
        variables: Variables = {}
        if isinstance(stage.loss, nn.Module):
            keys = {"params": key, "loss": key}
            variables = stage.loss.init(keys, outputs, recorded, batch, clock)
        return evaluate_loss(
            stage.loss, variables, outputs, recorded, batch, clock, key=key, axis_name=None
        )

    try:
        jax.eval_shape(trace, student, dict(teachers), batch)
    except (ValueError, KeyError) as error:
        raise InputError(f"stage {stage.name}: {error}") from error
    return {name: tuple(sorted(names)) for name, names in read.items()}


@jax.tree_util.register_pytree_node_class
class _Recorder(Mapping[str, Any]):
    """The features of a teacher; notes the names that are read."""

    def __init__(self, features: Mapping[str, Any], read: dict[str, None]):
        self._features, self._read = features, read

    def __getitem__(self, name: str) -> Any:
        value = self._features[name]
        self._read[name] = None
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Lets the loss pass the outputs through JAX's transformations; all features count."""
        self._read.update(dict.fromkeys(self._features))
        return (dict(self._features),), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Any]) -> Mapping[str, Any]:
        """Returns the features without notes."""
        del aux
        return children[0]
