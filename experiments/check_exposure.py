"""Student and teacher complete the prefixes of each other's texts.

python -m experiments.check_exposure --workdir=DIR --split=test

Student and teacher write a text for each source, by greedy decoding. Each of them also writes the
second half of a text after the other's first half. The paper shows exposure bias by texts that the
student begins and the teacher completes, which are better than the student's.

Source: Lin et al., "Autoregressive Knowledge Distillation through Imitation Learning", EMNLP 2020,
https://arxiv.org/abs/2009.07253.
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

from absl import flags

from akd_jax import runs
from akd_jax.host.errors import InputError
from akd_jax.metrics import generation as text_metrics
from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, Plan, evaluation
from akd_jax.training.evaluate import OnSplit
from akd_jax.training.generation import Writing, generate, greedy, written_lengths
from akd_jax.training.texts import decode_rows
from akd_jax.types import Batch
from experiments import cli, options
from experiments.tables import markdown_table, percent

_WORKDIR = options.workdir_flag()
_SPLIT = options.split_flag()
_TEACHER = flags.DEFINE_string("teacher", "teacher", "Name of the teacher that completes texts.")

# Who begins a text, and who completes it.
_TEACHER_ROW = "teacher"
ROWS = list(itertools.product((STUDENT, _TEACHER_ROW), (STUDENT, _TEACHER_ROW)))


def completed_texts(
    plan: Plan, models: Mapping[str, Model], split: str, teacher: str = "teacher"
) -> dict[tuple[str, str], list[str]]:
    """Returns the texts that student and teacher begin, completed by both.

    The first half of a text has half of its words, rounded up, where the end counts as a word.

    Args:
      plan: the plan of a finished run that generates texts.
      models: the student and its teachers.
      split: the name of the split.
      teacher: the name of the teacher.

    Returns:
      The texts by the pairs in ROWS, in the order of the split.

    Raises:
      InputError: the run generates no texts, or has no such teacher or split.
    """
    target, length = plan.dataset.task.target, plan.settings.dataset.max_length
    if target is None or teacher not in models:
        got = "none" if target is None else ", ".join(models)
        raise InputError(
            f"--workdir: expected a run that generates texts, with a network {teacher!r}, got"
            f" {got}; give another run, or another --teacher"
        )
    runs.check_split(plan, split)
    writing = Writing.of(target, length)

    def write(pair: Mapping[str, Model], batch: Batch, *, axis_name: str | None) -> Any:
        del axis_name

        def texts_of(network: str, prefix: tuple[Any, Any] | None) -> Any:
            decode = functools.partial(greedy, writing=writing, prefix=prefix)
            return generate(pair[network], batch.inputs, length, decode)

        written = {}
        for first in (STUDENT, _TEACHER_ROW):
            tokens = texts_of(first, None)
            # The start token, and half of the words and the end.
            half = tokens, 1 + (written_lengths(tokens, writing) + 2) // 2
            for second in (STUDENT, _TEACHER_ROW):
                written[first, second] = tokens if first == second else texts_of(second, half)
        return [written[row] for row in ROWS]

    pair: Any = {STUDENT: models[STUDENT], _TEACHER_ROW: models[teacher]}
    written = OnSplit(write)(pair, plan.batches(split))
    return {row: decode_rows(tokens, target) for row, tokens in zip(ROWS, written, strict=True)}


def main() -> None:
    """Prints the metrics of the four kinds of texts."""
    plan, models = runs.load(options.path(_WORKDIR))
    texts = completed_texts(plan, models, _SPLIT.value, _TEACHER.value)
    references = evaluation.references(plan, _SPLIT.value)
    names = [name for name in plan.dataset.task.metrics if name in text_metrics.TEXT_METRICS]
    rows = [
        (*row, *map(percent, text_metrics.scores(written, references, names).values()))
        for row, written in texts.items()
    ]
    cli.print_on_primary(markdown_table(("begins", "completes", *names), rows))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
