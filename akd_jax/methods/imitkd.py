"""ImitKD: the student learns what the teacher writes after the student's own words.

Lin et al., "Autoregressive Knowledge Distillation through Imitation Learning", EMNLP 2020,
https://arxiv.org/abs/2009.07253.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.settings import PositiveFraction
from akd_jax.losses.binding import UNNAMED, value_weights
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.methods.seq_kd import target_of, written_data
from akd_jax.methods.student_texts import StudentTexts
from akd_jax.training import maxima
from akd_jax.training.generation import without_special
from akd_jax.training.method import Method
from akd_jax.training.prefixes import REPLACED
from akd_jax.training.stage import Stage
from akd_jax.types import Batch, Clock, Outputs, TargetVocabulary, Task, Term


class Config(StudentTexts):
    """Settings of ImitKD."""

    final_beta: PositiveFraction = Field(
        default=0.005,
        description="Probability that a context of the data is kept at the end of the training,"
        " above 0 and at most 1.",
    )
    schedule: Literal["exponential", "linear", "constant"] = Field(
        default="exponential",
        description="How this probability gets there: 'exponential' or 'linear' from 1, with every"
        " update; or 'constant'.",
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


@dataclasses.dataclass(frozen=True)
class ImitationLoss:
    """The cross-entropy of each token against what should come next.

    In a context of the data, this is the next token of the data; in one that the student wrote, the
    teacher's most probable token, which is never the start token or padding. A context has the
    student's words up to the end token. The mean is that over all tokens of the batch.

    Attributes:
      target: the tokens of the texts.
    """

    target: TargetVocabulary

    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns the term; the batch comes from `StudentPrefixes`."""
        del clock
        best = maxima.argmax(without_special(teachers["teacher"].logits, self.target))
        replaced = jnp.asarray(batch.extra[REPLACED])[:, None]
        # A text of the teacher that was cut has no label at its end.
        batch = batch.replace(labels=jnp.where(replaced, best, batch.labels))
        values = losses.cross_entropy(student.logits, batch.filled_labels)
        return {UNNAMED: Term(values, value_weights(values, student, batch, labels=True))}


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage whose contexts come from the data and, more and more, from the student.

    Raises:
      InputError: the task is not to generate texts.
    """
    settings, student, target = config.section(Config), config.student, target_of(task, "imitkd")
    kept = _kept(settings, student.epochs)
    stage = Stage(
        "imitkd",
        student.epochs,
        losses.bind(losses.kl, temperature=1.0) if settings.full else ImitationLoss(target),
        student.optimizer,
        teachers=("teacher",),
        schedules={"kept": kept},
        prepare=settings.prefixes(target, kept),
        data=written_data(config, task, "imitkd") if settings.on_teacher_texts else None,
    )
    return Method("imitkd", (stage,), default_teacher(config))


def _kept(settings: Config, epochs: int) -> schedules.Schedule:
    """Returns the schedule of the probability that a context of the data is kept."""
    match settings.schedule:
        case "exponential":
            return schedules.exponential(1.0, settings.final_beta, epochs=epochs, smooth=True)
        case "linear":
            return schedules.linear(1.0, settings.final_beta, epochs=epochs, smooth=True)
        case "constant":
            return schedules.constant(settings.final_beta)


SPEC = MethodSpec(build, Config, reads=("seq_kd",))
