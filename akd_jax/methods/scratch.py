"""Supervised training on the hard labels, without a teacher."""

from typing import Any

from akd_jax import losses
from akd_jax.methods.base import MethodSpec, RunSettings, TrainedConfig, teacher_recipe
from akd_jax.training.method import Method, Recipe
from akd_jax.training.stage import Stage, StageData
from akd_jax.types import Task

# The cross-entropy, or the squared error in a regression.
supervised_loss = losses.bind(losses.supervised)


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage over all epochs of the student."""
    del task
    student = config.student
    return Method(
        "scratch", (Stage("scratch", student.epochs, supervised_loss, student.optimizer),)
    )


def default_teacher(config: RunSettings) -> dict[str, Recipe]:
    """Returns the recipe of the teacher that the section `teacher` describes, by its name."""
    return {"teacher": supervised_teacher(config.teacher, "teacher")}


def supervised_teacher(
    section: TrainedConfig,
    field: str,
    data: StageData | None = None,
    *,
    suffix: str = "",
    **settings: Any,
) -> Recipe:
    """Returns the recipe of a teacher that learns from the labels.

    Args:
      section: the section of the configuration that describes the teacher.
      field: the full name of the section.
      data: builds its training examples; None for the training split.
      suffix: the end of the teacher's name, if the section describes several teachers.
      **settings: what the examples depend on, as JSON values.
    """

    def method() -> Method:
        stage = Stage("scratch", section.epochs, supervised_loss, section.optimizer, data=data)
        return Method("teacher", (stage,))

    return teacher_recipe(section, field, method, suffix=suffix, **settings)


SPEC = MethodSpec(build)
