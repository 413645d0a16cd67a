"""Shows exposure bias: the teacher completes the beginnings of the student's texts.

python -m experiments.check_exposure --workdir=DIR --split=test

Student and teacher write a text for each source, by greedy decoding. The teacher also writes the
second half of each text of the student, after the student's first half. If the scores of these
texts are higher than the student's, the student loses quality on its own words.

Source: Lin et al., "Autoregressive Knowledge Distillation through Imitation Learning", EMNLP 2020,
https://arxiv.org/abs/2009.07253.
"""

from collections.abc import Mapping
from typing import Any

import jax
from absl import flags

from akd_jax import runs
from akd_jax.host.errors import InputError
from akd_jax.metrics import generation as text_metrics
from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, Plan, evaluation
from akd_jax.training.evaluate import OnSplit
from akd_jax.training.generation import Step, Writing, generate, greedy, written_lengths
from akd_jax.training.texts import decode_rows
from akd_jax.types import Batch
from experiments import cli, options
from experiments.tables import markdown_table, percent

_WORKDIR = options.workdir_flag()
_SPLIT = options.split_flag()
_TEACHER = flags.DEFINE_string("teacher", "teacher", "Name of the teacher that completes texts.")

# Who begins and who completes a text.
ROWS = {
    "student": "the student's texts",
    "completed": "completed by the teacher",
    "teacher": "the teacher's texts",
}


def completed_texts(
    plan: Plan, models: Mapping[str, Model], split: str, teacher: str = "teacher"
) -> dict[str, list[str]]:
    """Returns the texts of student and teacher, and the student's completed by the teacher.

    The first half of a text has half of its words, rounded up, where the end counts as a word.

    Args:
      plan: the plan of a finished run that generates texts.
      models: the student and its teachers.
      split: the name of the split.
      teacher: the name of the teacher.

    Returns:
      The texts by the names in ROWS, in the order of the split.

    Raises:
      InputError: the run generates no texts, or has no such teacher or split.
    """
    target, length = plan.dataset.task.target, plan.settings.dataset.max_length
    if target is None or teacher not in models:
        got = "none" if target is None else ", ".join(models)
        raise InputError(
            f"--workdir: expected a run that generates texts, with the teacher {teacher}, got"
            f" {got}; give another run, or another --teacher"
        )
    runs.check_split(plan, split)
    writing = Writing.of(target, length)

    def write(pair: tuple[Model, Model], batch: Batch, *, axis_name: str | None) -> dict[str, Any]:
        del axis_name
        student, other = pair

        def decode(step: Step, cache: Any, rows: int) -> jax.Array:
            return greedy(step, cache, rows, writing)

        tokens = generate(student, batch.inputs, length, decode)
        # The start token, and half of the words and the end.
        kept = 1 + (written_lengths(tokens, writing) + 2) // 2

        def complete(step: Step, cache: Any, rows: int) -> jax.Array:
            return greedy(step, cache, rows, writing, beginning=(tokens, kept))

        return {
            "student": tokens,
            "completed": generate(other, batch.inputs, length, complete),
            "teacher": generate(other, batch.inputs, length, decode),
        }

    pair: Any = (models[STUDENT], models[teacher])
    written = OnSplit(write)(pair, plan.batches(split))
    return {name: decode_rows(written[name], target) for name in ROWS}


def main() -> None:
    """Prints BLEU and chrF of the three kinds of texts."""
    plan, models = runs.load(options.path(_WORKDIR))
    texts = completed_texts(plan, models, _SPLIT.value, _TEACHER.value)
    references = evaluation.references(plan, _SPLIT.value)
    rows = [
        (
            ROWS[name],
            percent(text_metrics.bleu(written, references)),
            percent(text_metrics.chrf(written, references)),
        )
        for name, written in texts.items()
    ]
    cli.print_on_primary(markdown_table((_SPLIT.value, "BLEU", "chrF"), rows))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
