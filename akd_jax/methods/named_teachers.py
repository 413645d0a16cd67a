"""Several teachers of one student, each with a name."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

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


def teacher_recipes(field: str, teachers: Mapping[str, NamedTeacher]) -> dict[str, Recipe]:
    """Returns the recipe of each teacher by its name.

    Args:
      field: the full name of the field with the teachers, such as 'multi_teacher.teachers'.
      teachers: the settings of each teacher by its name.

    Raises:
      InputError: there are fewer than two teachers.
    """
    if len(teachers) < 2:
        raise InputError(
            f"config.{field}: expected at least two teachers by name, got"
            f" {', '.join(teachers) or 'none'}; add them in the configuration's file"
        )
    return {name: _recipe(f"{field}.{name}", section) for name, section in teachers.items()}


def _recipe(field: str, section: NamedTeacher) -> Recipe:
    data = _examples_of(section.group, field) if section.group else None
    return supervised_teacher(section, field, data, group=section.group)


def _examples_of(group: str, field: str) -> StageData:
    """Returns a function that selects the training examples of a group."""

    def select(context: StageContext) -> Examples:
        train = context.dataset.splits["train"]
        known = [] if train.groups is None else sorted(set(train.groups))
        if group not in known:
            raise InputError(
                f"config.{field}.group: expected one of the groups of the training examples,"
                f" {', '.join(known) or 'of which there are none'}, got {group!r}"
            )
        assert train.groups is not None, "expected groups"
        return train.take(np.flatnonzero(train.groups == group))

    return select
