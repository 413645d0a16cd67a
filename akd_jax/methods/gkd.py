"""GKD: on-policy distillation with a constant share of the student's own texts.

Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
ICLR 2024, https://arxiv.org/abs/2306.13649. The default values are those of the library trl.
"""

from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.settings import Fraction, NonNegative, NonNegativeInt, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.methods.seq_kd import target_of
from akd_jax.training.method import Method
from akd_jax.training.prefixes import StudentPrefixes
from akd_jax.training.stage import Stage
from akd_jax.types import Task


class Config(Section):
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
        description="Softmax temperature of the words that the student draws; 0 for its best ones.",
    )
    top_k: NonNegativeInt = Field(
        default=0, description="Number of the best words that the student draws from; 0 for all."
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage with the generalised Jensen-Shannon divergence on mixed contexts.

    Each sequence is drawn by itself; trl draws once for a whole batch.

    Raises:
      InputError: the task is not to generate texts.
    """
    settings, student = config.section(Config), config.student
    kept = schedules.constant(1 - settings.student_share)
    prefixes = StudentPrefixes(target_of(task, "gkd"), kept, settings.temperature, settings.top_k)
    stage = Stage(
        "gkd",
        student.epochs,
        losses.bind(losses.generalized_jsd, beta=settings.beta),
        student.optimizer,
        teachers=("teacher",),
        schedules={"kept": kept},
        prepare=prefixes,
    )
    return Method("gkd", (stage,), default_teacher(config))


SPEC = MethodSpec(build, Config)
