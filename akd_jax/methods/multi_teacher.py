r"""KD from the average of several teachers.

config.multi_teacher.teachers maps the name of each teacher to its settings. A configuration's file
adds the teachers; their fields can be changed on the command line, such as
--config.multi_teacher.teachers.NAME.path=DIR.

Source: You et al., "Learning from Multiple Teacher Networks", KDD 2017.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from pydantic import Field

from akd_jax import losses
from akd_jax.host.settings import Fraction, NonNegative, Positive, Section
from akd_jax.methods import kd
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.named_teachers import NamedTeacher, teacher_recipes, teacher_weights
from akd_jax.training.method import Method
from akd_jax.types import Outputs, Task


class Config(Section):
    """Settings of KD from several teachers."""

    teachers: dict[str, NamedTeacher] = Field(
        default={}, description="The teachers by name, at least two."
    )
    weights: dict[str, NonNegative] = Field(
        default={},
        description="Weight of each teacher by name, divided by their sum; empty for equal ones.",
    )
    average: Literal["probabilities", "logits"] = Field(
        default="probabilities", description="What is averaged: 'probabilities' or 'logits'."
    )
    temperature: Positive = Field(default=1.0, description="Softmax temperature T, greater than 0.")
    weight: Fraction = Field(
        default=0.7,
        description="Weight of the soft-label loss, from 0 to 1; the hard-label loss has the"
        " weight 1 - weight.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage with (1 - a) CE(z_s, label) + a T^2 KL(p || softmax(z_s / T)).

    p is the average of the teachers. A regression has the squared errors in place of both losses.

    Raises:
      InputError: there are fewer than two teachers, or the weights are not those of the teachers.
    """
    settings = config.section(Config)
    teachers = teacher_recipes("multi_teacher.teachers", settings.teachers)
    weights = teacher_weights("multi_teacher.weights", settings.weights, settings.teachers)

    def average(outputs: Mapping[str, Outputs]) -> jax.Array:
        return losses.average_teachers(
            jnp.stack([outputs[name].logits for name in teachers]),
            jnp.float32(weights) if weights else None,
            temperature=settings.temperature,
            average=settings.average,
        )

    stage = kd.soft_target_stage(
        "multi_teacher",
        config.student.epochs,
        config.student.optimizer,
        task,
        weight=settings.weight,
        temperature=settings.temperature,
        teachers=tuple(teachers),
        target=average,
    )
    return Method("multi_teacher", (stage,), teachers)


SPEC = MethodSpec(build, Config)
