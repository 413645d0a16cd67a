"""What a network predicts."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# Metrics of texts that are means over the texts; `akd_jax.metrics.answers` computes them.
GROUP_METRICS = ("exact_match", "phoneme_accuracy", "rouge1", "rouge2", "rouge_l", "sentence_chrf")


@dataclasses.dataclass(frozen=True)
class TargetVocabulary:
    """The tokens of the texts that a network generates.

    Attributes:
      key: a digest of the tokenizers of sources and targets.
      size: V, the number of tokens.
      start: the id of the token before the first word.
      end: the id of the token after the last word.
      pad: the id of padding; it may be that of `start`.
      tasks: the name of each task of a stream of tasks, with the id of its token; () for no stream.
      decode: maps sequences of ids to texts, without the tokens above.
    """

    key: str
    size: int
    start: int
    end: int
    pad: int
    tasks: tuple[tuple[str, int], ...] = ()
    decode: Callable[[Sequence[Sequence[int]]], list[str]] = dataclasses.field(
        kw_only=True, compare=False, repr=False
    )

    @property
    def task_tokens(self) -> tuple[int, ...]:
        """The ids of the tokens of tasks."""
        return tuple(token for _, token in self.tasks)

    @property
    def special(self) -> tuple[int, ...]:
        """The ids that are never generated: start, padding and the tokens of tasks."""
        return (self.start, self.pad, *self.task_tokens)


@dataclasses.dataclass(frozen=True)
class Task:
    """A prediction task: a classification, a regression, or the generation of a text.

    Attributes:
      labels: names of the classes, in the order of their indices; empty for the other tasks.
      metrics: names in `akd_jax.metrics.METRICS`, or in TEXT_METRICS for generated texts; the
        first one selects the best checkpoint.
      codes: the labels as written in the task's files, if they differ from the names.
      target: the tokens of generated texts; None for the other tasks.
      group_metrics: the name of each group of examples, such as a task of a stream, with the metric
        of its texts in GROUP_METRICS; their mean is the metric 'score'.
      data_digest: a digest of the files, which must be the same when a run resumes; empty for no
        such check.
      scale: (a, b) of a regression: the number in the task's files is a + b times the number that
        a network predicts, such as (0, 100) for scores from 0 to 100.
    """

    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    codes: tuple[str, ...] = ()
    target: TargetVocabulary | None = None
    group_metrics: tuple[tuple[str, str], ...] = ()
    data_digest: str = ""
    scale: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def numbered(cls, classes: int) -> "Task":
        """Returns a classification task whose classes are named by their indices."""
        return cls(tuple(map(str, range(classes))))

    @property
    def regression(self) -> bool:
        """Whether the task is a regression."""
        return not self.labels and self.target is None

    @property
    def outputs(self) -> int:
        """C, the number of logits of a network for this task; of each token of a generated text."""
        return len(self.labels) or (1 if self.target is None else self.target.size)

    @property
    def output_names(self) -> list[str]:
        """What the outputs of a network for this task stand for; [] for a regression."""
        if self.target is not None:
            return [f"the vocabularies {self.target.key}"]
        return list(self.labels)

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Returns the predictions or labels of a regression in the units of the task's files."""
        offset, factor = self.scale
        return offset + factor * np.asarray(values, np.float64)

    def format_prediction(self, prediction: float) -> str:
        """Returns a predicted class index, or number of a network, as in the task's files."""
        names = self.codes or self.labels
        if names:
            return names[int(prediction)]
        return f"{self.unscale(np.array(prediction)):.6f}"

    @property
    def metric(self) -> str:
        """The metric that selects the best checkpoint; tables show it."""
        return self.metrics[0]
