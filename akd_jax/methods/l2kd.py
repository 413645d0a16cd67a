"""L2KD: a language model learns tasks one after another, each from a separate teacher.

Each example is read in two views: as a question with its answer (QA), and as a text that the model
continues from the token of the task (LM). Before a task is learned, the model writes examples of
the earlier tasks, which it learns again beside those of the new task (replay, as in LAMOL).

The stages have the names of the tasks. The variants are

  finetune     QA only, without replay: how much is forgotten without any remedy
  lamol        the labels of the data, in both views, with replay
  word_kd      the probabilities of the task's teacher for each token, in place of the labels
  seq_kd       the answers that the teacher writes, in place of the data's
  seq_kd_soft  its probabilities on the answers that it writes
  multitask    one stage with the examples of all tasks: a ceiling

Sources: Chuang, Su and Chen, "Lifelong Language Knowledge Distillation", EMNLP 2020,
https://arxiv.org/abs/2010.02123; Sun, Ho and Lee, "LAMOL", ICLR 2020,
https://arxiv.org/abs/1909.03329.
"""

import itertools
import math
from typing import Any, Literal

from pydantic import Field

from akd_jax import losses, models
from akd_jax.data.dataset import test_split
from akd_jax.data.readers.streams import SCORE
from akd_jax.host.errors import InputError
from akd_jax.host.settings import NonNegative, NonNegativeInt, Positive, PositiveInt, Section
from akd_jax.methods.base import MethodSpec, RunSettings, teacher_recipe
from akd_jax.methods.seq_kd import target_of
from akd_jax.methods.stream_data import Replay, StreamData, Validation, count_examples
from akd_jax.training.method import Method, Recipe
from akd_jax.training.replay import Sampler
from akd_jax.training.stage import Stage
from akd_jax.training.texts import TextGenerator
from akd_jax.types import Task

_SOFT = ("word_kd", "seq_kd_soft")  # The variants with the teacher's probabilities.
_WRITTEN = ("seq_kd", "seq_kd_soft")  # Those with the answers that it writes.
_TAUGHT = tuple(dict.fromkeys((*_SOFT, *_WRITTEN)))
_FINETUNE, _MULTITASK = "finetune", "multitask"


class Config(Section):
    """Settings of L2KD and of its comparisons."""

    variant: Literal["finetune", "lamol", "word_kd", "seq_kd", "seq_kd_soft", "multitask"] = Field(
        default="word_kd", description="What the model learns from; see akd_jax.methods.l2kd."
    )
    lm_weight: NonNegative = Field(
        default=0.25,
        description="Weight lambda of the loss of whole texts beside that of the answers, at least"
        " 0; finetune has none.",
    )
    gamma: NonNegative = Field(
        default=0.2,
        description="Number of replayed examples per example of the new task, at least 0.",
    )
    replay: Literal["generated", "real"] = Field(
        default="generated",
        description="Replayed examples: 'generated' by the model, or 'real' ones of the data.",
    )
    top_k: PositiveInt = Field(
        default=20, description="Number of the most probable tokens that replay is drawn from."
    )
    temperature: Positive = Field(
        default=2.0, description="Softmax temperature T of the teacher and the student."
    )
    split_means: bool = Field(
        default=False,
        description="Whether the losses of new and of replayed examples are separate means, as"
        " in the authors' code; if not, there is one mean over all tokens.",
    )
    order: Literal["given", "seed"] = Field(
        default="given",
        description="Order of the tasks: 'given', that of config.dataset.tasks; or 'seed', the"
        " permutation of it with the number config.seed, so that several seeds are all orders.",
    )
    keep_teachers: bool = Field(
        default=False,
        description="Whether the weights of the teachers that a run trains are kept when it is"
        " finished.",
    )
    task_size: NonNegativeInt = Field(
        default=0, description="Number of training examples of each task; 0 for all."
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns a stage for each task, or one for all tasks.

    Raises:
      InputError: the data set is no stream, or a network does not continue texts.
    """
    target_of(task, "l2kd")
    if not task.group_metrics:
        raise InputError(
            "config.dataset.name: expected a stream of tasks for l2kd, got"
            f" {config.dataset.name}; choose the data set stream"
        )
    settings = config.section(Config)
    networks = {"student": config.student.model}
    if settings.variant in _TAUGHT and not config.teacher.path:
        networks["teacher"] = config.teacher.model
    for field, model in networks.items():
        if not models.continues_texts(model):
            raise InputError(
                f"config.{field}.model: expected a network that continues texts, such as"
                f" decoder:2x64, for l2kd, got {model!r}; choose another network"
            )
    replays = settings.gamma and settings.variant not in (_FINETUNE, _MULTITASK)
    if replays and settings.replay == "generated" and not settings.lm_weight:
        raise InputError(
            "config.l2kd.lm_weight: expected more than 0, since a model that has not learned whole"
            " texts cannot write examples of earlier tasks, got 0; increase it, or set"
            " config.l2kd.gamma to 0"
        )
    return _Stream(config, settings, task).method()


class _Stream:
    """Builds the stages of a stream."""

    def __init__(self, config: RunSettings, settings: Config, task: Task):
        assert task.target is not None, "expected a task of generating texts"
        self._config, self._settings, self._task = config, settings, task
        self._target = task.target
        self._generator = TextGenerator(task.target, config.dataset.max_length)
        self._sampler = Sampler(task.target, config.dataset.max_length, settings.top_k, config.seed)
        names = tuple(name for name, _ in task.group_metrics)
        if settings.order == "seed":
            number = config.seed % math.factorial(len(names))
            names = next(itertools.islice(itertools.permutations(names), number, None))
        self._names = names

    def method(self) -> Method:
        """Returns the stages, and the recipes of their teachers."""
        variant, names = self._settings.variant, self._names
        if variant == _MULTITASK:
            return Method("l2kd", (self._student_stage(_MULTITASK, names, ()),))
        stages = [
            self._student_stage(name, (name,), names[:number]) for number, name in enumerate(names)
        ]
        recipes = {}
        if variant in _TAUGHT:
            recipes = {_teacher(name): self._recipe(name) for name in names}
        return Method("l2kd", tuple(stages), recipes, keeps_teachers=self._settings.keep_teachers)

    def _student_stage(self, name: str, new: tuple[str, ...], earlier: tuple[str, ...]) -> Stage:
        """Returns the stage in which the student learns tasks after earlier ones."""
        settings, student = self._settings, self._config.student
        variant = settings.variant
        teacher = _teacher(name) if variant in _TAUGHT else ""
        # As many for each of the earlier tasks.
        count = math.ceil(settings.gamma * self._count(new)) // max(1, len(earlier))
        replay = None
        if earlier and count and variant != _FINETUNE:
            sampler = self._sampler if settings.replay == "generated" else None
            replay = Replay(earlier, count, earlier[-1], sampler)
        data = self._data(
            new,
            lm=variant != _FINETUNE,
            teacher=teacher if variant in _WRITTEN else "",
            replay=replay,
        )
        loss = losses.StreamLoss(
            self._target,
            new_rows=data.views * self._count(new),
            teacher=teacher if variant in _SOFT else "",
            temperature=settings.temperature,
            lm_weight=settings.lm_weight,
            split_means=settings.split_means,
        )
        return Stage(
            name,
            student.epochs,
            loss,
            student.optimizer,
            start=earlier[-1] if earlier else None,
            teachers=(teacher,) if teacher else (),
            data=data,
            evaluate=self._validation(new),
            select=(SCORE, "last"),
            tests=tuple(map(test_split, (*earlier, *new))),
            share=len(new) / len(self._names),
        )

    def _recipe(self, name: str) -> Recipe:
        """Returns the recipe of the teacher of a task, which learns its labels in both views."""
        settings, section = self._settings, self._config.teacher
        data = self._data((name,))
        loss = losses.StreamLoss(
            self._target, new_rows=data.views * self._count((name,)), lm_weight=settings.lm_weight
        )

        def method() -> Method:
            stage = Stage(
                "scratch",
                section.epochs,
                loss,
                section.optimizer,
                data=data,
                evaluate=self._validation((name,)),
                select=(SCORE, "max"),
                tests=(test_split(name),),
            )
            return Method("teacher", (stage,))

        own: dict[str, Any] = {
            "task": name,
            "lm_weight": settings.lm_weight,
            "task_size": settings.task_size,
        }
        return teacher_recipe(section, "teacher", method, suffix=f"_{name}", **own)

    def _data(self, names: tuple[str, ...], *, lm: bool = True, **options: Any) -> StreamData:
        return StreamData(
            self._config,
            self._target,
            self._generator,
            names,
            size=self._settings.task_size,
            lm=lm and self._settings.lm_weight > 0,
            **options,
        )

    def _validation(self, names: tuple[str, ...]) -> Validation:
        return Validation(self._config.dataset, self._task, self._generator, names)

    def _count(self, names: tuple[str, ...]) -> int:
        return count_examples(self._config.dataset, names, self._settings.task_size)


def _teacher(name: str) -> str:
    """Returns the name of the teacher of a task."""
    return f"teacher_{name}"


SPEC = MethodSpec(build, Config)
