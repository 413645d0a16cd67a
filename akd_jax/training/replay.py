"""Examples of earlier tasks that a language model writes itself (LAMOL's pseudo-samples).

Sun, Ho and Lee, "LAMOL", ICLR 2020, https://arxiv.org/abs/1909.03329.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.data import Batches, Dataset, Examples
from akd_jax.models.network import Model
from akd_jax.training.evaluate import OnSplit
from akd_jax.training.generation import Step, Writing, generate, sample
from akd_jax.training.texts import Texts
from akd_jax.types import COMPLETION, Batch, TargetVocabulary, Tokens

_TAG = 0x5E9  # Keeps the keys apart from those of the training.
SEPARATOR = "<answer>"  # Between question and answer in the files of replayed examples.


class Sampler:
    """Draws texts of tasks: each begins with the token of its task.

    What is drawn for a text depends on its number, the number of tasks that the model has learned,
    and the seed; and neither on the other texts nor on the number of devices.

    Args:
      target: the tokens of the texts.
      length: the largest number of tokens of a text, with that of its task.
      top_k: the number of the most probable tokens that are drawn from.
      seed: the seed.
    """

    def __init__(self, target: TargetVocabulary, length: int, top_k: int, seed: int):
        self._target, self._length, self._top_k, self._seed = target, length, top_k, seed

        def sample_step(
            start: int, model: Model, batch: Batch, *, axis_name: str | None
        ) -> jax.Array:
            del axis_name
            assert batch.ids is not None, "expected the numbers of the texts"
            # The labels hold what the keys depend on.
            numbers, learned = jnp.asarray(batch.labels)[:, :2].T
            key = jax.random.fold_in(jax.random.key(seed), _TAG)
            keys = jax.vmap(lambda *x: functools.reduce(jax.random.fold_in, x, key))(
                learned, numbers
            )
            writing = Writing(length, start, target.end, target.pad, target.task_tokens)

            def decode(step: Step, cache: Any, rows: int) -> jax.Array:
                del rows
                return sample(step, cache, keys, writing, top_k=top_k)

            return generate(model, batch.inputs, length, decode)

        self._sample: Mapping[str, OnSplit] = {
            name: OnSplit(functools.partial(sample_step, token)) for name, token in target.tasks
        }

    def __str__(self) -> str:
        return (
            f"the {self._top_k} most probable tokens, seed {self._seed}, at most {self._length}"
            " tokens"
        )

    def __call__(
        self,
        model: Model,
        batches: Callable[[Examples], Batches],
        dataset: Dataset,
        tasks: Sequence[str],
        numbers: np.ndarray,
        learned: int,
    ) -> list[Texts]:
        """Returns a text for each number; question and answer have SEPARATOR between them.

        Args:
          model: the model that writes.
          batches: returns the batches of examples.
          dataset: the data set, whose inputs have the shapes that the model reads.
          tasks: the task of each text.
          numbers: the number of each text.
          learned: the number of tasks that the model has learned.

        Raises:
          StoppedError: a stop was requested.
        """
        ((key, example),) = dataset.example.items()
        written: dict[int, Texts] = {}
        for name in dict.fromkeys(tasks):
            chosen = [n for n, task in zip(numbers.tolist(), tasks, strict=True) if task == name]
            ids = np.zeros((len(chosen), *example.ids.shape[1:]), np.int32)
            # Only the token of the task, with which the writing starts: an empty prompt.
            prompts = Tokens(ids, np.full_like(ids, COMPLETION), np.ones(len(chosen), np.int32))
            labels = np.zeros((len(chosen), *dataset.label_shape), np.int32)
            labels[:, 0], labels[:, 1] = chosen, learned
            rows = self._sample[name](model, batches(Examples({key: prompts}, labels)))
            for number, row in zip(chosen, rows, strict=True):
                written[number] = self._text(row)
        return [written[number] for number in numbers.tolist()]

    def _text(self, row: np.ndarray) -> Texts:
        """Returns the text of a sequence [T], whose first token is that of the task."""
        words = row[1:].tolist()
        ended = self._target.end in words
        words = words[: words.index(self._target.end)] if ended else words
        words = [word for word in words if word != self._target.pad]
        parts: list[list[int]] = [[]]
        for word in words:
            if word == self._target.start:
                parts.append([])
            else:
                parts[-1].append(word)
        text = f" {SEPARATOR} ".join(part.strip() for part in self._target.decode(parts))
        return Texts([text], np.zeros(1), np.array([not ended]))


def parse(text: str, *, ended: bool) -> tuple[str, str] | None:
    """Returns question and answer of a replayed text; None if it is malformed.

    A text is well-formed if it has ended, and has one SEPARATOR between two parts that are not
    empty.
    """
    parts = [part.strip() for part in text.split(SEPARATOR)]
    if not ended or len(parts) != 2 or not all(parts):
        return None
    return parts[0], parts[1]
