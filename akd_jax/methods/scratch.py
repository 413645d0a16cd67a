"""Supervised training on the hard labels, without a teacher."""

from akd_jax import losses
from akd_jax.methods.base import MethodSpec, RunSettings, teacher_recipe
from akd_jax.training.method import Method, Recipe
from akd_jax.training.stage import Stage
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
    section = config.teacher

    def method() -> Method:
        stage = Stage("scratch", section.epochs, supervised_loss, section.optimizer)
        return Method("teacher", (stage,))

    return {"teacher": teacher_recipe(section, "teacher", method)}


SPEC = MethodSpec(build)
