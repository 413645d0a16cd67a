"""Sequence-level KD: the student learns the texts that the teacher writes.

Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016,
https://arxiv.org/abs/1606.07947.
"""

import functools
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from akd_jax import data as datasets
from akd_jax import losses
from akd_jax.data import Examples, completions, sequences
from akd_jax.host.errors import InputError
from akd_jax.host.files import readable_path
from akd_jax.host.settings import NonNegative, NonNegativeInt, PositiveInt, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher, supervised_loss
from akd_jax.metrics.generation import closest
from akd_jax.teachers.stored import describe_precision
from akd_jax.training import teacher_texts
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage, StageContext, StageData
from akd_jax.training.texts import TextGenerator, Texts
from akd_jax.types import TargetVocabulary, Task


class Interpolation(Section):
    """A second stage, on the beams that are closest to the texts of the data."""

    epochs: NonNegativeInt = Field(
        default=0,
        description="Number of the student's last epochs on other texts: of all beams, the one that"
        " is closest to the text of the data by sentence BLEU; 0 for none.",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(), description="Optimizer of these epochs."
    )


class Config(Section):
    """Settings of sequence-level KD."""

    beams: PositiveInt = Field(
        default=5, description="Number of beams with which the teacher writes, at least 1."
    )
    length_penalty: NonNegative = Field(
        default=0.0,
        description="Exponent of the length by which the score of a text is divided, at least 0.",
    )
    path: str = Field(
        default="",
        description="File of texts that the teacher wrote before, with the columns source and"
        " target, and a text for every training source; empty to write it in the folder of the"
        " stored outputs.",
    )
    full: bool = Field(
        default=False,
        description="Whether the student learns the teacher's probabilities of all words of these"
        " texts; if not, it learns the words.",
    )
    interpolation: Interpolation = Field(
        default=Interpolation(), description="The last epochs, on texts closer to the data's."
    )


def target_of(task: Task, method: str) -> TargetVocabulary:
    """Returns the target vocabulary of a task.

    Raises:
      InputError: the task is not to generate texts.
    """
    if task.target is None:
        raise InputError(
            f"config.method: expected a data set of texts to generate, such as parallel_text, for"
            f" {method}, got one with labels or numbers; choose another method or data set"
        )
    return task.target


def written_data(
    config: RunSettings, task: Task, method: str, *, interpolated: bool = False
) -> StageData:
    """Returns the data of a stage: the training sources with the texts that the teacher writes.

    A text that was cut before its end has no end to learn.

    Args:
      config: the settings of the run.
      task: the task.
      method: the name of the method, for messages.
      interpolated: whether to use the beam that is closest to the target of the data, instead of
        the most probable one.

    Raises:
      InputError: the task is not to generate texts; or config.seq_kd.path is missing, malformed, or
        lacks a source.
    """
    target = target_of(task, method)
    given = _given_texts(config, "")  # Fail before a teacher is trained.
    if given is not None and interpolated:
        raise InputError(
            "config.seq_kd.path: expected no file with interpolation, which needs all beams, got"
            f" {config.section(Config).path}; leave the path empty"
        )
    return functools.partial(_examples, config, target, interpolated)


def _given_texts(config: RunSettings, teacher: str) -> list[tuple[str, bool]] | None:
    """Returns the text of each training source in `config.seq_kd.path`; None without a path.

    Args:
      config: the settings of the run.
      teacher: the digest of the teacher that must have written them; empty for any.
    """
    settings = config.section(Config)
    if not settings.path:
        return None
    path = readable_path("config.seq_kd.path", settings.path)
    texts = teacher_texts.read_best(path, teacher)
    sources = completions.prompts(_training_texts(config))
    missing = [x for x in map(teacher_texts.one_line, sources) if x not in texts]
    if missing:
        raise InputError(
            f"{path}: expected a text for every source of the training split, got none for"
            f" {len(missing):,}, such as {missing[0][:60]!r}; give the file of this data set"
        )
    return [texts[teacher_texts.one_line(source)] for source in sources]


def _training_texts(config: RunSettings) -> np.ndarray:
    return datasets.load(config.dataset).splits["train"].inputs


def _examples(
    config: RunSettings, target: TargetVocabulary, interpolated: bool, context: StageContext
) -> Examples:
    train = context.dataset.splits["train"]
    if context.folder is None:  # A dry run: the data set has the right shapes.
        return train
    given = _given_texts(config, context.digest("teacher"))
    texts = _training_texts(config)
    sources = completions.prompts(texts)
    if given is None:
        written = _write(config, target, context, train, sources)
        best = [
            closest(beams.texts, expected) if interpolated else 0
            for beams, expected in zip(written, texts[:, -1], strict=True)
        ]
        given = [
            (beams.texts[rank], not beams.without_end[rank])
            for beams, rank in zip(written, best, strict=True)
        ]
    return tokenise_written(context, target, sources, given)


def tokenise_written(
    context: StageContext,
    target: TargetVocabulary,
    sources: Sequence[str],
    texts: Sequence[tuple[str, bool]],
) -> Examples:
    """Returns sources with texts that a teacher wrote.

    A text that was cut before its end has no end to learn.

    Args:
      context: tokenises them.
      target: the tokens of the texts.
      sources: N texts.
      texts: the text of each source, and whether it has ended.
    """
    pairs = [(source, text) for source, (text, _) in zip(sources, texts, strict=True)]
    examples, _ = context.tokenise(np.array(pairs, object))
    return sequences.without_end(examples, np.array([not ended for _, ended in texts]), target.end)


def _write(
    config: RunSettings,
    target: TargetVocabulary,
    context: StageContext,
    train: Examples,
    sources: list[str],
) -> list[Texts]:
    """Returns the beams of the teacher for each training source."""
    settings, length = config.section(Config), config.dataset.max_length
    generator = TextGenerator(target, length, settings.beams, settings.length_penalty)
    search = f"beams {settings.beams}, length penalty {settings.length_penalty:g}, at most"
    return write_texts(
        context,
        "teacher",
        generator,
        train,
        sources,
        target.key,
        f"{search} {length} tokens, {describe_precision(config.dtype)}",
    )


def write_texts(
    context: StageContext,
    teacher: str,
    generator: TextGenerator,
    examples: Examples,
    sources: Sequence[str],
    vocabularies: str,
    search: str,
) -> list[Texts]:
    """Returns the beams of a teacher for each source; writes them in the run's folder once.

    Args:
      context: has the teacher and the folder.
      teacher: the name of the teacher.
      generator: generates the texts.
      examples: the tokens of the sources.
      sources: the sources.
      vocabularies: the key of the tokenizers.
      search: a description of the search.
    """
    assert context.folder is not None, "expected a folder for the texts"
    return teacher_texts.load_or_write(
        context.folder,
        teacher,
        teacher_texts.Fingerprint(
            context.digest(teacher), teacher_texts.digest_of_texts(sources), vocabularies, search
        ),
        sources,
        lambda numbers: generator.all_beams(
            context.models[teacher], context.batches(examples.take(numbers))
        ),
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns a stage on the teacher's texts and, if chosen, one on those closest to the data's.

    Raises:
      InputError: the task is not to generate texts, or there are no epochs before interpolation.
    """
    settings, student = config.section(Config), config.student
    epochs = student.epochs - settings.interpolation.epochs
    if epochs < 1:
        raise InputError(
            "config.seq_kd.interpolation.epochs: expected fewer than the student's"
            f" {student.epochs} epochs, got {settings.interpolation.epochs}; reduce it"
        )
    stages = [
        Stage(
            "seq_kd",
            epochs,
            losses.bind(losses.kl, temperature=1.0) if settings.full else supervised_loss,
            student.optimizer,
            teachers=("teacher",) if settings.full else (),
            data=written_data(config, task, "seq_kd"),
        )
    ]
    if settings.interpolation.epochs:
        stages.append(
            Stage(
                "interpolation",
                settings.interpolation.epochs,
                supervised_loss,
                settings.interpolation.optimizer,
                start="seq_kd",
                data=written_data(config, task, "seq_kd", interpolated=True),
            )
        )
    return Method("seq_kd", tuple(stages), default_teacher(config))


SPEC = MethodSpec(build, Config)
