"""Checks the stages of a run on the shapes of its networks and data."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import data
from akd_jax.data import Dataset
from akd_jax.methods.base import RunSettings
from akd_jax.models.network import Model, Network
from akd_jax.runs.networks import variable_shapes
from akd_jax.teachers.live import LiveTeacher
from akd_jax.teachers.selection import Selection
from akd_jax.training.check import check_stage
from akd_jax.training.stage import Method, Recipe, Stage, Trained
from akd_jax.types import Batch

_ROWS = 2  # The number of examples of the batch whose shapes are checked.


def check_methods(
    settings: RunSettings,
    dataset: Dataset,
    method: Method,
    student: Network,
    recipes: Mapping[str, Recipe],
    teachers: Mapping[str, Network],
) -> None:
    """Checks all stages that a run trains, those of its teachers included.

    Args:
      settings: the configuration.
      dataset: the data set.
      method: the method that trains the student.
      student: the student's network.
      recipes: the recipes of all teachers by name.
      teachers: their networks by name.

    Raises:
      InputError: see `akd_jax.training.check.check_stage`.
    """
    trained = [(method, student)]
    trained += [
        (recipe.method, teachers[name])
        for name, recipe in recipes.items()
        if isinstance(recipe, Trained)
    ]
    for trained_method, network in trained:
        for stage in trained_method.stages:
            stage_features(settings, dataset, stage, network, teachers)


def stage_features(
    settings: RunSettings,
    dataset: Dataset,
    stage: Stage,
    network: Network,
    teachers: Mapping[str, Network],
) -> dict[str, tuple[str, ...]]:
    """Checks a stage; returns the names of the features that its loss reads, by teacher."""
    select = None
    if settings.teacher.views and settings.teacher.stored_top_k:
        select = Selection(None, top_k=settings.teacher.stored_top_k)
    return check_stage(
        stage,
        _abstract_model(network, dataset),
        {n: LiveTeacher(_abstract_model(teachers[n], dataset), select) for n in stage.teachers},
        _abstract_batch(settings, dataset),
    )


def _abstract_model(network: Network, dataset: Dataset) -> Model:
    return Model(variable_shapes(network, dataset), network.apply)


def _abstract_batch(settings: RunSettings, dataset: Dataset) -> Batch:
    """Returns the shapes of a batch of the training split."""
    # The data set of a plan tokenises all its texts when a split is accessed, so read another one.
    labels = data.load(settings.dataset).splits["train"].labels

    def shape(rows: Any, dtype: Any) -> Any:
        return jax.ShapeDtypeStruct((_ROWS, *rows), dtype)

    numbers = shape((), np.int32)
    inputs = jax.tree.map(lambda x: shape(x.shape[1:], x.dtype), dataset.example)
    return Batch(
        inputs,
        shape(labels.shape[1:], labels.dtype),
        shape((), np.float32),
        ids=numbers,
        views=numbers,
    )
