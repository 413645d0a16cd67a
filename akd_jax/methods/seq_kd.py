"""Sequence-level KD: the student learns the texts that the teacher writes.

Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016,
https://arxiv.org/abs/1606.07947.
"""

import functools

import numpy as np
from pydantic import Field

from akd_jax import data as datasets
from akd_jax import losses
from akd_jax.data import Examples
from akd_jax.host.errors import InputError
from akd_jax.host.files import readable_path
from akd_jax.host.settings import NonNegative, NonNegativeInt, PositiveInt, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher, supervised_loss
from akd_jax.metrics.generation import closest
from akd_jax.teachers.stored import digest
from akd_jax.training import teacher_texts
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage, StageContext, StageData
from akd_jax.training.texts import TextGenerator
from akd_jax.types import TargetVocabulary, Task


class Interpolation(Section):
    """A second stage, on the beams that are closest to the texts of the data."""

    epochs: NonNegativeInt = Field(
        default=0,
        description="Number of the student's last epochs that use, of all beams, the text that is"
        " closest to that of the data by sentence BLEU; 0 for none.",
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
        " target; empty to write it in the folder of the stored outputs.",
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

    Args:
      config: the settings of the run.
      task: the task.
      method: the name of the method, for messages.
      interpolated: whether to use the beam that is closest to the target of the data, instead of
        the most probable one.

    Raises:
      InputError: the task is not to generate texts.
    """
    return functools.partial(_examples, config, target_of(task, method), interpolated)


def _examples(
    config: RunSettings, target: TargetVocabulary, interpolated: bool, context: StageContext
) -> Examples:
    settings = config.section(Config)
    train = context.dataset.splits["train"]
    if context.folder is None:  # A dry run: the data set has the right shapes.
        return train
    teacher = context.models["teacher"]
    teacher_digest = digest(teacher.variables)
    if settings.path and not interpolated:
        path = readable_path("config.seq_kd.path", settings.path)
        pairs = teacher_texts.read_of_teacher(path, teacher_digest)
    else:
        texts = datasets.load(config.dataset).splits["train"].inputs
        length = config.dataset.max_length
        generator = TextGenerator(target, length, settings.beams, settings.length_penalty)

        def search(numbers: np.ndarray) -> tuple[list[str], list[float]]:
            written = generator.all_beams(teacher, context.batches(train.take(numbers)))
            best = [0] * len(numbers)
            if interpolated:
                best = [
                    closest(row.texts, expected)
                    for row, expected in zip(written, texts[numbers, 1], strict=True)
                ]
            rows = list(zip(written, best, strict=True))
            return [x.texts[i] for x, i in rows], [float(x.scores[i]) for x, i in rows]

        pairs = teacher_texts.load_or_write(
            context.folder,
            "teacher_interpolated" if interpolated else "teacher_texts",
            teacher_texts.Fingerprint(
                teacher_digest,
                teacher_texts.digest_of_texts(texts if interpolated else texts[:, :1]),
                target.key,
                f"beams {settings.beams}, length penalty {settings.length_penalty:g}, at most"
                f" {length} tokens, {config.dtype}",
            ),
            texts[:, 0].tolist(),
            search,
        )
    examples, _ = context.tokenise(pairs)
    return examples


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
