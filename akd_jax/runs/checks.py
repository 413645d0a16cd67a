"""Checks the methods of a run on the shapes of its networks and data."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import data
from akd_jax.data import Dataset, Examples, text
from akd_jax.host.errors import InputError
from akd_jax.methods.base import RunSettings
from akd_jax.models.network import Model, Preprocess
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.check import Reads, check_stage
from akd_jax.training.method import Method
from akd_jax.training.scheduled import check_schedules
from akd_jax.training.stage import Stage
from akd_jax.training.state import changed_shapes, prepare_batch
from akd_jax.types import Batch, Clock, Outputs, TopK

_ROWS = 2  # The number of examples of the batch whose shapes are checked.


def check_methods(
    settings: RunSettings,
    dataset: Dataset,
    methods: Mapping[str, Method],
    models: Mapping[str, Model],
) -> dict[tuple[str, str], Mapping[str, Reads]]:
    """Checks all stages that a run trains, those of its teachers included.

    Args:
      settings: the configuration.
      dataset: the data set.
      methods: the methods that train the student and the teachers, by the name of the network.
      models: the student and all teachers, by name; only the shapes of their variables matter.

    Returns:
      What the loss of a stage reads of its teachers, by the names of the network and the stage.

    Raises:
      InputError: see `akd_jax.training.check.check_stage` and `check_schedules`. Or the initial
        variables of a method do not fit the student, a stage selects by a score that does not
        exist, or what a loss reads cannot be stored.
    """
    # The data set of a plan tokenises all its texts when a split is accessed, so read another one.
    labels = data.load(settings.dataset).splits["train"].labels
    views, top_k = settings.teacher.views, settings.teacher.stored_top_k
    if views and top_k > dataset.task.outputs:
        raise InputError(
            f"config.teacher.stored_top_k: expected 0 to {dataset.task.outputs}, the number of"
            f" logits, got {top_k}; reduce it"
        )
    if views and dataset.task.target is not None:
        raise InputError(
            "config.teacher.views: expected 0 for texts to generate, whose teachers have outputs"
            f" for every token that are not stored, got {views}; set it to 0"
        )
    batch = _batch_shapes(labels.dtype, dataset)
    reads: dict[tuple[str, str], Mapping[str, Reads]] = {}
    for name, method in methods.items():
        _check_initial_variables(method, name, models, dataset)
        for stage in method.stages:
            _check_selection(stage, dataset)
            if stage.data is None:
                size = len(labels) + settings.unlabelled_examples(stage)
                check_schedules(stage, -(-size // settings.batch_size))
            teachers = {
                other: LiveTeacher(models[other], _add_top_k(top_k) if views else None)
                for other in stage.teachers
            }
            reads[name, stage.name] = check_stage(stage, models[name], teachers, batch)
            for other in stage.teachers if views else ():
                _check_storable(
                    settings, dataset, stage, other, models[other], reads[name, stage.name][other]
                )
    return reads


def reads_prepared_inputs(
    stage: Stage,
    student: Model,
    teachers: Mapping[str, Model],
    preprocess: Preprocess,
    examples: Examples,
    dataset: Dataset,
) -> bool:
    """Returns whether a stage's `prepare` changes what a network with this preprocessing reads.

    Networks of texts select their tokens, which stay the same arrays if nothing changes them. All
    other inputs count as changed.
    """
    if stage.prepare is None:
        return False
    changed = [False]

    def trace(student: Model, teachers: Mapping[str, Model], batch: Batch) -> None:
        key, live = jax.random.key(0), {name: LiveTeacher(x) for name, x in teachers.items()}
        prepared = prepare_batch(stage.prepare, student, live, batch, Clock.at(), key)
        before, after = (jax.tree.leaves(preprocess(x.inputs)) for x in (batch, prepared))
        changed[0] = any(a is not b for a, b in zip(before, after, strict=True))

    own = {name: teachers[name] for name in stage.teachers}
    jax.eval_shape(trace, student, own, _batch_shapes(examples.labels.dtype, dataset))
    return changed[0]


def _check_initial_variables(
    method: Method, name: str, models: Mapping[str, Model], dataset: Dataset
) -> None:
    """Checks that a method computes initial variables of the student's shapes and types."""
    teachers = {other: models[other] for other in method.teachers}
    initial = jax.eval_shape(method.initial_variables, models[name], teachers, dataset.example)
    for path, expected, actual in changed_shapes(models[name].variables, initial):
        raise InputError(
            f"{method.name}: expected the initial variable {path} to stay {expected}, got {actual};"
            " change the method's `initialise`"
        )


def _check_selection(stage: Stage, dataset: Dataset) -> None:
    """Checks that the metrics of the task contain the score that selects the best student."""
    known = dataset.task.metrics
    if stage.evaluate is None and stage.select is not None and stage.select[0] not in known:
        raise InputError(
            f"stage {stage.name}: expected to select by a metric of the task,"
            f" {', '.join(known)}, got {stage.select[0]!r}; change select or add an evaluation"
        )


def _check_storable(
    settings: RunSettings, dataset: Dataset, stage: Stage, name: str, model: Model, reads: Reads
) -> None:
    """Checks that what a loss reads of a teacher can be stored."""
    if settings.teacher.stored_top_k and reads.logits:
        raise InputError(
            f"config.teacher.stored_top_k: expected 0, because the loss of the stage {stage.name}"
            f" reads all logits of {name}, got {settings.teacher.stored_top_k}; set it to 0"
        )
    for part in ("mask", "head"):
        if getattr(reads, part):
            raise InputError(
                f"config.teacher.views: expected 0, because the loss of the stage {stage.name}"
                f" reads the {part} of {name}, which is not stored, got {settings.teacher.views};"
                " set it to 0"
            )
    if len(dataset.buckets) < 2 or not reads.features:
        return
    shortest, longest = (
        jax.eval_shape(Model.__call__, model, text.crop(dataset.example, length)).features
        for length in (dataset.buckets[0], dataset.buckets[-1])
    )
    varying = [x for x in sorted(reads.features) if shortest[x].shape != longest[x].shape]
    if varying:
        raise InputError(
            "config.dataset.bucketing: expected False to store the features"
            f" {', '.join(varying)} of {name}, whose shape depends on the length of a text, got"
            " True; set it to False, or config.teacher.views to 0"
        )


def _add_top_k(top_k: int) -> Any:
    """Returns a function that adds the largest logits to a teacher's outputs, as if stored."""
    if not top_k:
        return None

    def add(outputs: Outputs) -> Outputs:
        return outputs.replace(top_k=TopK.of(outputs.logits, top_k))

    return add


def _batch_shapes(label_dtype: np.dtype, dataset: Dataset) -> Batch:
    """Returns the shapes of a batch of examples."""

    def shape(rows: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct((_ROWS, *rows), dtype)

    numbers = shape((), np.int32)
    return Batch(
        jax.tree.map(lambda x: shape(x.shape[1:], x.dtype), dataset.example),
        shape(dataset.label_shape, label_dtype),
        shape((), np.float32),
        ids=numbers,
        views=numbers,
    )
