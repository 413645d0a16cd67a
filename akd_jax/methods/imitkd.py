"""ImitKD: the student learns what the teacher writes after the student's own words.

Lin et al., "Autoregressive Knowledge Distillation through Imitation Learning", EMNLP 2020,
https://arxiv.org/abs/2009.07253.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.settings import NonNegative, NonNegativeInt, PositiveFraction, Section
from akd_jax.losses.compose import UNNAMED, value_weights
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.methods.seq_kd import target_of, written_data
from akd_jax.training.method import Method
from akd_jax.training.prefixes import REPLACED, StudentPrefixes
from akd_jax.training.stage import Stage
from akd_jax.types import Batch, Clock, Outputs, Task, Term


class Config(Section):
    """Settings of ImitKD."""

    final_beta: PositiveFraction = Field(
        default=0.005,
        description="Probability that a context of the data is kept at the end of the training,"
        " above 0 and at most 1; it is 1 at first and falls exponentially.",
    )
    full: bool = Field(
        default=False,
        description="Whether the student learns the teacher's probabilities of all words, on every"
        " context; if not, it learns the teacher's best word after its own words, and the next word"
        " of the data after those of the data.",
    )
    on_teacher_texts: bool = Field(
        default=False,
        description="Whether the data are the texts that the teacher writes for the training"
        " sources, as in seq_kd, whose settings they have.",
    )
    temperature: NonNegative = Field(
        default=0.0,
        description="Softmax temperature of the words that the student draws; 0 for its best ones.",
    )
    top_k: NonNegativeInt = Field(
        default=0, description="Number of the best words that the student draws from; 0 for all."
    )


def imitation_loss(
    student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
) -> Mapping[str, Term]:
    """Returns the cross-entropy of each token against what should come next.

    In a context of the data, this is the next token of the data; in one that the student wrote, the
    teacher's most probable token. A context has the student's words up to the end token. The mean
    is that over all tokens of the batch.

    Args:
      student: the student's outputs, with logits [B, L, V].
      teachers: the teacher's outputs, under 'teacher'.
      batch: the batch, from `StudentPrefixes`.
      clock: not used.
    """
    del clock
    best = jnp.argmax(teachers["teacher"].logits, axis=-1)
    replaced = jnp.asarray(batch.extra[REPLACED])[:, None]
    labels = jnp.where(replaced, best, batch.filled_labels)
    values = losses.cross_entropy(student.logits, labels)
    return {UNNAMED: Term(values, value_weights(values, student, batch))}


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage whose contexts come from the data and, more and more, from the student.

    Raises:
      InputError: the task is not to generate texts.
    """
    settings, student = config.section(Config), config.student
    kept = schedules.exponential(1.0, settings.final_beta, epochs=student.epochs, smooth=True)
    stage = Stage(
        "imitkd",
        student.epochs,
        losses.bind(losses.kl, temperature=1.0) if settings.full else imitation_loss,
        student.optimizer,
        teachers=("teacher",),
        schedules={"kept": kept},
        prepare=StudentPrefixes(
            target_of(task, "imitkd"), kept, settings.temperature, settings.top_k
        ),
        data=written_data(config, task, "imitkd") if settings.on_teacher_texts else None,
    )
    return Method("imitkd", (stage,), default_teacher(config))


SPEC = MethodSpec(build, Config, reads=("seq_kd",))
