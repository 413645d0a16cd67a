"""Texts that a model generates for a whole split, and their scores."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.data import Batches
from akd_jax.metrics import answers
from akd_jax.metrics import generation as text_metrics
from akd_jax.models.network import Model
from akd_jax.training.beam_search import beam_search
from akd_jax.training.evaluate import OnSplit
from akd_jax.training.generation import (
    Step,
    Writing,
    generate,
    greedy,
    written_lengths,
)
from akd_jax.types import Batch, TargetVocabulary, Task, Variables

LENGTH_RATIO, WITHOUT_END = "length_ratio", "without_end"


@dataclasses.dataclass(frozen=True)
class Texts:
    """Generated texts.

    Attributes:
      texts: N texts.
      scores: log p / length^alpha of each by beam search; zeros for greedy decoding.
      without_end: whether each was cut before its end token, bool [N].
    """

    texts: list[str]
    scores: np.ndarray
    without_end: np.ndarray

    def take(self, rows: np.ndarray) -> "Texts":
        """Returns the texts of some rows, in their order."""
        return Texts([self.texts[row] for row in rows], self.scores[rows], self.without_end[rows])


class TextGenerator:
    """Generates texts for the examples of a split.

    Args:
      target: the tokens of the texts.
      length: the largest number of tokens of a text, with the start token.
      beams: K, the number of beams; 1 decodes greedily.
      length_penalty: the alpha of `beam_search`.
    """

    def __init__(
        self, target: TargetVocabulary, length: int, beams: int = 1, length_penalty: float = 0.0
    ):
        self._target = target
        writing = Writing.of(target, length)

        def decode(step: Step, cache: Any, rows: int) -> tuple[jax.Array, jax.Array]:
            if beams == 1:
                return greedy(step, cache, rows, writing)[:, None], jnp.zeros((rows, 1))
            return beam_search(
                step, cache, rows, writing, beams=beams, length_penalty=length_penalty
            )

        def generate_step(model: Model, batch: Batch, *, axis_name: str | None) -> Any:
            del axis_name
            return generate(model, batch.inputs, length, decode)

        self._generate = OnSplit(generate_step)

    def __call__(self, model: Model, batches: Batches) -> Texts:
        """Returns the best text of each example, in the order of the ids.

        Raises:
          StoppedError: a stop was requested.
        """
        tokens, scores = self._generate(model, batches)
        return self._decode(tokens[:, 0], scores[:, 0])

    def all_beams(self, model: Model, batches: Batches) -> list[Texts]:
        """Returns the K texts of each example, the best one first, in the order of the ids.

        Raises:
          StoppedError: a stop was requested.
        """
        tokens, scores = self._generate(model, batches)
        rows, beams, length = tokens.shape
        texts = self._decode(tokens.reshape(rows * beams, length), scores.ravel())
        parts = [slice(row * beams, (row + 1) * beams) for row in range(rows)]
        return [Texts(texts.texts[x], texts.scores[x], texts.without_end[x]) for x in parts]

    def _decode(self, tokens: np.ndarray, scores: np.ndarray) -> Texts:
        has_end = (tokens == self._target.end).any(axis=1)
        return Texts(decode_rows(tokens, self._target), np.asarray(scores), ~has_end)


def decode_rows(tokens: np.ndarray, target: TargetVocabulary) -> list[str]:
    """Returns the texts of sequences [N, T]: their tokens after the start and before the end."""
    lengths = written_lengths(tokens, Writing.of(target, tokens.shape[1]))
    words = [row[1 : 1 + length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    return [text.strip() for text in target.decode(words)]


@dataclasses.dataclass(frozen=True)
class TextScores:
    """The evaluation of a model by the metrics of its greedy texts on a split.

    Attributes:
      generator: generates the texts.
      batches: the examples of the split.
      references: the text that each example should have.
      task: names the metrics.
      groups: the group of each example; () without groups.
    """

    generator: TextGenerator
    batches: Batches
    references: Sequence[str]
    task: Task
    groups: Sequence[str] = ()

    def __call__(
        self, model: Model, loss_variables: Variables | None = None, /
    ) -> dict[str, float]:
        """Returns the metrics by name, 'length_ratio', and 'without_end', a share of the texts.

        Every example counts. The metrics are between 0 and 1.

        Raises:
          StoppedError: a stop was requested.
        """
        del loss_variables
        return score(self.generator(model, self.batches), self.references, self.task, self.groups)


def score(
    generated: Texts, references: Sequence[str], task: Task, groups: Sequence[str] = ()
) -> dict[str, float]:
    """Returns the metrics of texts by name, 'length_ratio', and the share 'without_end'."""
    of_groups = dict(task.group_metrics)
    means = {}
    if of_groups:
        means[task.metric] = answers.group_score(generated.texts, references, groups, of_groups)
    others = [name for name in task.metrics if name not in means]
    return {
        **means,
        **text_metrics.scores(generated.texts, references, others),
        LENGTH_RATIO: text_metrics.length_ratio(generated.texts, references),
        WITHOUT_END: float(np.mean(generated.without_end)),
    }
