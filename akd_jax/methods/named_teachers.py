"""Several teachers of one student, each with a name."""

from collections.abc import Iterable, Mapping

import numpy as np
from pydantic import Field

from akd_jax import losses
from akd_jax.data import Examples
from akd_jax.host.errors import InputError
from akd_jax.methods.base import TrainedConfig
from akd_jax.methods.scratch import supervised_teacher
from akd_jax.training.method import Recipe
from akd_jax.training.stage import StageContext, StageData


class NamedTeacher(TrainedConfig):
    """One of several teachers: a finished one under `path`, or one to train on the labels."""

    group: str = Field(
        default="",
        description="Group of training examples that the teacher learns from, such as the name of"
        " a domain; empty for all examples.",
    )


def teacher_recipes(
    field: str, teachers: Mapping[str, NamedTeacher], folds: int = 0
) -> dict[str, Recipe]:
    """Returns the recipe of each teacher by its name.

    With folds, several teachers stand for each name, with the names of `losses.fold_names`. Teacher
    f learns from the training examples whose indices do not have the remainder f, so that it can
    teach those that have it without having seen them. The path of finished teachers is then that of
    the folds, without '_fold_N'.

    Args:
      field: the full name of the field with the teachers, such as 'multi_teacher.teachers'.
      teachers: the settings of each teacher by its name.
      folds: the number of folds; 0 for teachers that learn from all examples.

    Raises:
      InputError: there are fewer than two teachers, or two have the same path.
    """
    if len(teachers) < 2:
        raise InputError(
            f"config.{field}: expected at least two teachers by name, got"
            f" {', '.join(teachers) or 'none'}; add them in the configuration's file"
        )
    paths: dict[str, str] = {}
    for name, section in teachers.items():
        if section.path in paths:
            raise InputError(
                f"config.{field}.{name}.path: expected another teacher than that of"
                f" {paths[section.path]}, got {section.path!r} for both; remove one"
            )
        if section.path:
            paths[section.path] = name
    recipes: dict[str, Recipe] = {}
    for name, section in teachers.items():
        if not folds:
            recipes[name] = _recipe(f"{field}.{name}", section)
        for fold, fold_name in enumerate(losses.fold_names(name, folds)):
            suffix = fold_name.removeprefix(name)
            recipes[fold_name] = _recipe(f"{field}.{name}", section, suffix, fold=fold, folds=folds)
    return recipes


def teacher_weights(
    field: str, weights: Mapping[str, float], teachers: Iterable[str]
) -> tuple[float, ...]:
    """Returns the weights in the order of the teachers; () if none are given.

    Args:
      field: the full name of the field with the weights, such as 'multi_teacher.weights'.
      weights: the weight of each teacher by its name; empty for equal ones.
      teachers: the names of the teachers.

    Raises:
      InputError: the weights are not those of the teachers, or all are 0.
    """
    if weights and (set(weights) != set(teachers) or not any(weights.values())):
        given = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        raise InputError(
            f"config.{field}: expected a weight for each of {', '.join(teachers)}, not all 0, got"
            f" {given}; correct the weights"
        )
    return tuple(weights[name] for name in teachers) if weights else ()


def _recipe(field: str, section: NamedTeacher, suffix: str = "", **fold: int) -> Recipe:
    data = _examples_of(field, section.group, **fold) if section.group or fold else None
    return supervised_teacher(section, field, data, suffix=suffix, group=section.group, **fold)


def _examples_of(field: str, group: str, *, fold: int = 0, folds: int = 0) -> StageData:
    """Returns a function that selects the training examples of a group, outside of a fold."""

    def select(context: StageContext) -> Examples:
        train = context.dataset.splits["train"]
        chosen = np.ones(len(train), bool)
        if group:
            known = [] if train.groups is None else sorted(set(train.groups))
            if group not in known:
                raise InputError(
                    f"config.{field}.group: expected one of the groups of the training examples,"
                    f" {', '.join(known) or 'of which there are none'}, got {group!r};"
                    " correct it"
                )
            assert train.groups is not None, "expected groups"
            chosen &= train.groups == group
        if folds:
            chosen &= np.arange(len(train)) % folds != fold
        return train.take(np.flatnonzero(chosen))

    return select
