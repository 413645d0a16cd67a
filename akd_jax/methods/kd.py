"""Vanilla knowledge distillation (Hinton et al., 2015, https://arxiv.org/abs/1503.02531)."""

from collections.abc import Callable, Mapping

import jax
from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.settings import Fraction, Positive, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Batch, Clock, Outputs, Task


class Config(Section):
    """Settings of vanilla KD."""

    temperature: Positive = Field(default=4.0, description="Softmax temperature T, greater than 0.")
    weight: Fraction = Field(
        default=0.9,
        description="Weight of the soft-label loss, from 0 to 1; the hard-label loss has the"
        " weight 1 - weight.",
    )


def kd_stage(
    name: str, epochs: int, optimizer: OptimizerConfig, config: Config, task: Task, teacher: str
) -> Stage:
    """Returns a stage of KD from one teacher, see `soft_target_stage`.

    Args:
      name: the name of the stage.
      epochs: its epochs.
      optimizer: the settings of its optimizer.
      config: the settings of the loss.
      task: the task.
      teacher: the name of the teacher.
    """
    return soft_target_stage(
        name,
        epochs,
        optimizer,
        task,
        weight=config.weight,
        temperature=config.temperature,
        teachers=(teacher,),
        target=lambda outputs: outputs[teacher].logits,
    )


def soft_target_stage(
    name: str,
    epochs: int,
    optimizer: OptimizerConfig,
    task: Task,
    *,
    weight: float,
    temperature: float,
    teachers: tuple[str, ...],
    target: Callable[[Mapping[str, Outputs]], jax.Array],
) -> Stage:
    """Returns a stage with (1 - a) CE(z_s, label) + a T^2 KL(softmax(z_t/T) || softmax(z_s/T)).

    A regression has no class probabilities. Its loss is
    (1 - a) (z_s - label)^2 + a (z_s - z_t)^2.

    Args:
      name: the name of the stage.
      epochs: its epochs.
      optimizer: the settings of its optimizer.
      task: the task.
      weight: a.
      temperature: T.
      teachers: the names of the teachers.
      target: returns z_t from the teachers' outputs by name.
    """

    def soft_loss(
        student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> jax.Array:
        del batch, clock
        if task.regression:
            return losses.annealed_mse(student.logits, target(teachers))
        return losses.kl(student.logits, target(teachers), temperature)

    # A regression has no distribution to soften, and so no temperature.
    recorded = {} if task.regression else {"temperature": schedules.constant(temperature)}
    return Stage(
        name,
        epochs,
        losses.compose(hard=(1 - weight, losses.supervised), soft=(weight, soft_loss)),
        optimizer,
        teachers=teachers,
        schedules=recorded,
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage with the loss of KD and the teacher."""
    student = config.student
    stage = kd_stage(
        "kd", student.epochs, student.optimizer, config.section(Config), task, "teacher"
    )
    return Method("kd", (stage,), default_teacher(config))


SPEC = MethodSpec(build, Config)
