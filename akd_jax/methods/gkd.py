"""GKD: on-policy distillation with a constant share of the student's own texts.

Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
ICLR 2024, https://arxiv.org/abs/2306.13649. The default values of the fields are those of the
library trl.
"""

from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.settings import Fraction, NonNegative
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.methods.seq_kd import target_of
from akd_jax.methods.student_texts import StudentTexts
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from akd_jax.types import Task


class Config(StudentTexts):
    """Settings of GKD."""

    student_share: Fraction = Field(
        default=0.5,
        description="Probability that a context of the data is replaced by one that the student"
        " writes, from 0 to 1; trl calls it lmbda.",
    )
    beta: Fraction = Field(
        default=0.5,
        description="Share of the teacher in the mixture of the Jensen-Shannon divergence: 0 for"
        " the forward and 1 for the reverse KL divergence.",
    )
    temperature: NonNegative = Field(
        default=0.9,
        description="Softmax temperature of the tokens that the student draws; 0 for its best"
        " ones.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage with the generalised Jensen-Shannon divergence on mixed contexts.

    Each sequence is drawn by itself; trl draws once for a whole batch.

    Raises:
      InputError: the task is not to generate texts.
    """
    settings, student = config.section(Config), config.student
    kept = schedules.constant(1 - settings.student_share)
    stage = Stage(
        "gkd",
        student.epochs,
        losses.bind(losses.generalized_jsd, beta=settings.beta),
        student.optimizer,
        teachers=("teacher",),
        schedules={"kept": kept},
        prepare=settings.prefixes(target_of(task, "gkd"), kept),
    )
    return Method("gkd", (stage,), default_teacher(config))


SPEC = MethodSpec(build, Config)
