"""Teacher-assistant KD (Mirzadeh et al., AAAI 2020, https://arxiv.org/abs/1902.03393).

An assistant, whose size is between teacher and student, learns from the teacher by KD. The
student learns from the assistant by KD.
"""

from pydantic import Field

from akd_jax.host.settings import Section
from akd_jax.methods import kd
from akd_jax.methods.base import MethodSpec, RunSettings, TrainedConfig, teacher_recipe
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method, Recipe
from akd_jax.types import Task


class Config(Section):
    """Settings of teacher-assistant KD."""

    assistant: TrainedConfig = Field(
        default=TrainedConfig(),
        description="The teacher assistant, which learns from the teacher by kd.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage with the loss of KD and the assistant as the teacher."""
    student, settings = config.student, config.section(kd.Config)
    stage = kd.kd_stage("takd", student.epochs, student.optimizer, settings, task, "assistant")
    return Method("takd", (stage,), {"assistant": _assistant(config, task)})


def _assistant(config: RunSettings, task: Task) -> Recipe:
    """Returns the recipe of the assistant, which learns from the teacher by KD."""
    section, settings = config.section(Config).assistant, config.section(kd.Config)
    teachers = default_teacher(config)

    def method() -> Method:
        stage = kd.kd_stage("kd", section.epochs, section.optimizer, settings, task, "teacher")
        return Method("assistant", (stage,), teachers)

    return teacher_recipe(
        section,
        "takd.assistant",
        method,
        kd=settings.model_dump(),
        views=config.teacher.views,
    )


SPEC = MethodSpec(build, Config, reads=("kd",))
