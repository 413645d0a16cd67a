"""The examples of a stage of a stream of tasks: those of new tasks, and replay of earlier ones.

Each example is a row of its question and answer (QA), and a row of all its tokens after that of its
task (LM). The rows of the new tasks come first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from akd_jax import data as datasets
from akd_jax.data import Examples, completions
from akd_jax.data.dataset import concatenate
from akd_jax.data.settings import DatasetConfig
from akd_jax.host.errors import InputError
from akd_jax.methods.base import RunSettings
from akd_jax.methods.seq_kd import tokenise_written, write_texts
from akd_jax.teachers.stored import describe_precision
from akd_jax.training import replay, teacher_texts
from akd_jax.training.stage import Evaluate, StageContext
from akd_jax.training.texts import TextGenerator, TextScores
from akd_jax.types import TargetVocabulary, Task

MALFORMED = "malformed"  # In the records of a stage: the share of replay that was dropped.


@dataclasses.dataclass(frozen=True)
class Replay:
    """The examples of earlier tasks.

    Attributes:
      tasks: the earlier tasks.
      count: number of examples of each, at least 1; of the data at most as many as were learned.
      model: the name of the stage whose model writes them.
      sampler: draws them; None to take the first examples of the data.
    """

    tasks: tuple[str, ...]
    count: int
    model: str
    sampler: replay.Sampler | None


@dataclasses.dataclass(frozen=True)
class StreamData:
    """Builds the examples of a stage.

    Attributes:
      config: the settings of the run.
      target: the tokens of the texts.
      generator: writes the answers of the teacher.
      tasks: the new tasks.
      size: number of training examples of each task; 0 for all.
      lm: whether there are LM rows.
      teacher: the name of the teacher whose answers take the place of those of the data; empty for
        none.
      replay: the examples of earlier tasks; None for none.
    """

    config: RunSettings
    target: TargetVocabulary
    generator: TextGenerator
    tasks: tuple[str, ...]
    size: int = 0
    lm: bool = True
    teacher: str = ""
    replay: Replay | None = None

    @property
    def views(self) -> int:
        """Number of rows of an example."""
        return 2 if self.lm else 1

    def __call__(self, context: StageContext) -> Examples:
        """Returns the rows: QA and LM of the new tasks, then QA and LM of the earlier ones."""
        numbers = np.concatenate([self._numbers(name, self.size) for name in self.tasks])
        train = context.dataset.splits["train"].take(numbers)
        self._check_answers(context.dataset.splits["train"].labels)
        if context.folder is None:  # A dry run: rows of the right number and shapes.
            count = 0 if self.replay is None else self.replay.count * len(self.replay.tasks)
            return self._rows(train.take(np.arange(len(train) + count) % len(train)))
        if self.teacher:
            texts = self._texts()[numbers]
            train = dataclasses.replace(self._write(context, train, texts), groups=train.groups)
        rows = [self._rows(train)]
        if self.replay is not None:
            replayed = self._replay(context, self.replay)
            if len(replayed):
                rows.append(self._rows(replayed))
        return concatenate(rows)

    def _rows(self, examples: Examples) -> Examples:
        """Returns the QA rows of examples, and then their LM rows."""
        if not self.lm:
            return examples
        assert examples.groups is not None, "expected the tasks of the examples"
        tokens = dict(self.target.tasks)
        starts = np.array([tokens[name] for name in examples.groups], np.int32)
        ((key, rows),) = examples.inputs.items()
        inputs, labels = completions.language_rows(rows, self.target, starts)
        return concatenate([examples, Examples({key: inputs}, labels, examples.groups)])

    def _write(self, context: StageContext, train: Examples, texts: np.ndarray) -> Examples:
        """Returns the questions with the answers of the teacher."""
        prompts, precision = completions.prompts(texts), describe_precision(self.config.dtype)
        written = write_texts(
            context,
            self.teacher,
            self.generator,
            train,
            prompts,
            self.target.key,
            f"greedy, at most {self.config.dataset.max_length} tokens, {precision}",
        )
        answers = [(beams.texts[0], not beams.without_end[0]) for beams in written]
        return tokenise_written(context, self.target, prompts, answers)

    def _replay(self, context: StageContext, settings: Replay) -> Examples:
        """Returns examples of the earlier tasks."""
        sampler = settings.sampler
        if sampler is None:
            parts = [self._numbers(name, self.size)[: settings.count] for name in settings.tasks]
            return context.dataset.splits["train"].take(np.concatenate(parts))
        assert context.folder is not None, "expected a folder for the texts"
        rows = [(name, number) for name in settings.tasks for number in range(settings.count)]
        sources = [f"{name} {number}" for name, number in rows]
        precision = describe_precision(self.config.dtype)
        written = teacher_texts.load_or_write(
            context.folder,
            f"replay_after_{settings.model}",
            teacher_texts.Fingerprint(
                context.digest(settings.model),
                teacher_texts.digest_of_texts(sources),
                self.target.key,
                f"{sampler}, {len(settings.tasks)} tasks, {precision}",
            ),
            sources,
            lambda numbers: sampler(
                context.models[settings.model],
                context.batches,
                context.dataset,
                [rows[number][0] for number in numbers],
                numbers,
                len(settings.tasks),
            ),
        )
        parsed = [replay.parse(x.texts[0], ended=not x.without_end[0]) for x in written]
        kept = [number for number, row in enumerate(parsed) if row is not None]
        context.notes[MALFORMED] = 1 - len(kept) / len(parsed)
        train = context.dataset.splits["train"]
        if not kept:
            return train.take(np.array([], int))
        examples, _ = context.tokenise(np.array([parsed[number] for number in kept], object))
        groups = np.array([rows[number][0] for number in kept], object)
        return dataclasses.replace(examples, groups=groups)

    def _numbers(self, name: str, size: int) -> np.ndarray:
        """Returns the numbers of the first training examples of a task; 0 for all."""
        return np.flatnonzero(_groups(self.config.dataset, "train") == name)[: size or None]

    def _texts(self) -> np.ndarray:
        return datasets.load(self.config.dataset).splits["train"].inputs

    def _check_answers(self, labels: np.ndarray) -> None:
        """Raises InputError if an answer of any task was cut."""
        cut = ~np.any(labels == self.target.end, axis=1)
        if cut.any():
            row = int(np.argmax(cut))
            raise InputError(
                "config.dataset.max_length: expected room for each answer beside a quarter of the"
                f" tokens for its question, got {self.config.dataset.max_length}, too few for"
                f" {self._texts()[row, -1][:60]!r}; increase it"
            )


@dataclasses.dataclass(frozen=True)
class Validation:
    """The evaluation of a stage, on the validation examples of tasks.

    Attributes:
      config: the settings of the data set.
      task: names the metrics.
      generator: generates the answers.
      tasks: the tasks.
    """

    config: DatasetConfig
    task: Task
    generator: TextGenerator
    tasks: tuple[str, ...]

    def __call__(self, context: StageContext) -> Evaluate:
        """Returns the evaluation."""
        groups = _groups(self.config, "validation")
        numbers = np.flatnonzero(np.isin(groups, self.tasks))
        answers = datasets.load(self.config).splits["validation"].inputs[numbers, -1].tolist()
        examples = context.dataset.splits["validation"].take(numbers)
        return TextScores(
            self.generator, context.batches(examples), answers, self.task, groups[numbers].tolist()
        )


def count_examples(config: DatasetConfig, tasks: Sequence[str], size: int) -> int:
    """Returns the number of training examples of tasks, with at most `size` of each; 0 for all."""
    groups = _groups(config, "train")
    counts = [int((groups == name).sum()) for name in tasks]
    return sum(min(count, size) if size else count for count in counts)


def _groups(config: DatasetConfig, split: str) -> np.ndarray:
    """Returns the task of each example of a split, str [N]."""
    groups = datasets.load(config).splits[split].groups
    assert groups is not None, "expected a stream of tasks"
    return groups
