"""A run: from a configuration to a distilled student, its scores and its checkpoints."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from akd_jax import config, loop, methods, models, optimizers, parallel, records
from akd_jax.checkpoint import Checkpoints
from akd_jax.config import RunConfig
from akd_jax.data import Batches, Dataset
from akd_jax.data import load as load_dataset
from akd_jax.errors import InputError
from akd_jax.methods.scratch import hard_label_loss
from akd_jax.step import eval_step
from akd_jax.teachers import LiveTeacher
from akd_jax.types import Method, Model, Stage, Teacher, TrainState, Variables
from akd_jax.writers import MetricWriter

TEACHER = "teacher"  # The folder of a run's teacher, and its name among the teachers.
STUDENT = "student"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A configuration that was checked, and what it names. Nothing is compiled or written.

    Attributes:
      settings: the configuration, typed.
      method: the stages that train the student.
      dataset: the examples.
      student: the student's module.
      teacher: the teacher's module; None where the method reads no teacher.
    """

    settings: RunConfig
    method: Method
    dataset: Dataset
    student: nn.Module
    teacher: nn.Module | None

    def batches(self, split: str, seed: int | None = None) -> Batches:
        """The batches of a split, in a new order each epoch where a seed is given."""
        return Batches(self.dataset.splits[split], self.settings.batch_size, seed=seed)


def plan(run_config: Any) -> Plan:
    """Checks a configuration as far as that goes without compiling or writing.

    Args:
      run_config: an ml_collections ConfigDict or a dict, with the fields of configs/default.py.

    Raises:
      InputError: something does not fit; the message names the field.
    """
    settings = config.parse(run_config)
    method = methods.build(settings)
    parallel.check_batch_size(settings.batch_size)
    dataset = load_dataset(settings.dataset)
    return Plan(
        settings=settings,
        method=method,
        dataset=dataset,
        student=_module("config.student.model", settings.student.model, dataset),
        teacher=_teacher_module(settings, dataset) if method.teachers else None,
    )


def run(run_config: Any, workdir: str | Path) -> dict[str, Any]:
    """Trains the student, and before it the teacher where the method reads one.

    Args:
      run_config: an ml_collections ConfigDict or a dict, with the fields of configs/default.py.
      workdir: folder of this run. Called again with the same configuration, the run goes on
        from its last checkpoints; a finished one only returns its results.

    Returns:
      What results.json holds: scores of teacher and student, and a summary of each stage.

    Raises:
      InputError: the configuration or the workdir does not fit; nothing was written.
      DivergedError: a loss became infinite or no number.
    """
    planned = plan(run_config)
    settings = planned.settings
    folder = Path(workdir).absolute()
    records.claim(folder, settings.model_dump())
    finished = records.read(folder / records.RESULTS)
    if finished is not None:
        return finished

    teachers: dict[str, Teacher] = {}
    teacher_scores = None
    if planned.teacher is not None:
        if settings.teacher.path:
            teacher_folder = Path(settings.teacher.path).absolute()
            teacher_results = _finished_teacher(teacher_folder)
        else:
            teacher_folder = folder / TEACHER
            teacher_results = train_teacher(planned, teacher_folder)
        variables = _restore_best(teacher_folder / "scratch", planned.teacher, planned.dataset)
        teachers[TEACHER] = LiveTeacher(Model(variables, planned.teacher.apply))
        teacher_scores = {name: teacher_results[name] for name in ("validation", "test")}

    scores, stages = _train(
        planned,
        planned.method,
        planned.student,
        teachers,
        folder=folder / STUDENT,
        writer=MetricWriter(folder),
        seed=settings.seed,
        label=f"{settings.method} seed {settings.seed}",
    )
    results = {
        "method": settings.method,
        "dataset": settings.dataset.name,
        "seed": settings.seed,
        "select_on": "validation accuracy",
        "teacher": teacher_scores,
        "student": scores,
        "stages": stages,
        "devices": parallel.describe(),
    }
    records.write(folder / records.RESULTS, results)
    return results


def train_teacher(planned: Plan, folder: Path) -> dict[str, Any]:
    """Trains a teacher from scratch, or goes on with it, or finds it finished.

    Several runs can share its folder as their `config.teacher.path`.

    Args:
      planned: of a method that reads a teacher.
      folder: for its checkpoints, its own config.json and results.json.

    Returns:
      What its results.json holds: its scores and number of classes.

    Raises:
      InputError: the folder holds another teacher, or cannot be written.
    """
    assert planned.teacher is not None, f"{planned.method.name} reads no teacher"
    settings = planned.settings.teacher
    records.claim(
        folder,
        {
            "dataset": planned.settings.dataset.model_dump(),
            "batch_size": planned.settings.batch_size,
            "teacher": settings.model_dump(exclude={"path"}),
        },
    )
    finished = records.read(folder / records.RESULTS)
    if finished is not None:
        return finished
    stage = Stage("scratch", settings.epochs, hard_label_loss, settings.optimizer)
    scores, stages = _train(
        planned,
        Method("scratch", (stage,)),
        planned.teacher,
        {},
        folder=folder,
        writer=MetricWriter(folder),
        seed=settings.seed,
        label="teacher",
    )
    results = {**scores, "num_classes": planned.dataset.num_classes, "stages": stages}
    records.write(folder / records.RESULTS, results)
    return results


def evaluate(workdir: str | Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Metrics of a finished run's student, and of its teacher, on a split.

    Args:
      workdir: of a run that finished.
      split: 'train', 'validation' or 'test'.

    Returns:
      'student', and 'teacher' where there is one, to metric names to values.

    Raises:
      InputError: the folder holds no finished run, or there is no such split.
    """
    folder = Path(workdir).absolute()
    record = records.read(folder / records.CONFIG)
    if record is None or not (folder / records.RESULTS).exists():
        raise InputError(
            f"{folder}: expected a finished run, got none; run experiments.train on it first"
        )
    planned = plan(record["config"])
    if split not in planned.dataset.splits:
        raise InputError(
            f"split: expected one of {', '.join(planned.dataset.splits)}, got {split!r}"
        )
    last_stage = planned.method.stages[-1].name
    found = {STUDENT: (folder / STUDENT / last_stage, planned.student)}
    if planned.teacher is not None:
        path = planned.settings.teacher.path or folder / TEACHER
        found[TEACHER] = (Path(path).absolute() / "scratch", planned.teacher)
    evaluator = loop.Evaluator(parallel.compile_eval_step(eval_step))
    return {
        name: evaluator(
            Model(_restore_best(checkpoints, module, planned.dataset), module.apply),
            planned.batches(split),
        )
        for name, (checkpoints, module) in found.items()
    }


def _train(
    planned: Plan,
    method: Method,
    module: nn.Module,
    teachers: Mapping[str, Teacher],
    *,
    folder: Path,
    writer: MetricWriter,
    seed: int,
    label: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trains the stages of a method in their order; scores of the last, summaries of all."""
    train = planned.batches("train", seed=seed)
    evaluator = loop.Evaluator(parallel.compile_eval_step(eval_step))
    key = jax.random.key(seed)
    initial = jax.jit(module.init)(jax.random.fold_in(key, 0), train.examples.inputs[:1])
    results: dict[str, loop.StageResult] = {}
    first_epoch = 0
    for number, stage in enumerate(method.stages, start=1):
        learning_rate = optimizers.learning_rate(stage, len(train))
        state = TrainState.create(
            module.apply,
            initial if stage.start is None else results[stage.start].best,
            optimizer=optimizers.build(stage.optimizer, learning_rate),
            loss=stage.loss,
            key=jax.random.fold_in(key, number),
        )
        with Checkpoints(folder / stage.name) as checkpoints:
            results[stage.name] = loop.run_stage(
                stage,
                state,
                {name: teachers[name] for name in stage.teachers},
                train=train,
                validation=planned.batches("validation"),
                evaluate=evaluator,
                learning_rate=learning_rate,
                checkpoints=checkpoints,
                checkpoint_every=planned.settings.checkpoint_every,
                writer=writer,
                label=label if len(method.stages) == 1 else f"{label} {stage.name}",
                first_epoch=first_epoch,
            )
        first_epoch += stage.epochs
    writer.close()

    last = results[method.stages[-1].name]
    test = planned.batches("test")
    scores = {
        "stage": method.stages[-1].name,
        "epoch": last.progress.best_epoch,
        "validation": last.progress.best_validation,
        "test": evaluator(Model(last.best, module.apply), test)["accuracy"],
        "test_last": evaluator(Model(last.last, module.apply), test)["accuracy"],
    }
    stages = [
        loop.summary(stage, results[stage.name].progress, len(train)) for stage in method.stages
    ]
    return scores, stages


def _module(field: str, spec: str, dataset: Dataset) -> nn.Module:
    """Builds the model that a field names, and checks that it takes the data set's inputs."""
    try:
        module = models.build(spec, dataset.num_classes)
        _shapes(module, dataset)
    except InputError as error:
        raise InputError(f"{field}: {error}") from None
    return module


def _teacher_module(settings: RunConfig, dataset: Dataset) -> nn.Module:
    """The teacher's module: of the configuration, or of the teacher found at its path."""
    path = settings.teacher.path
    if not path:
        return _module("config.teacher.model", settings.teacher.model, dataset)
    results = _finished_teacher(Path(path))
    if results["num_classes"] != dataset.num_classes:
        raise InputError(
            f"config.teacher.path: expected a teacher of {dataset.num_classes} classes, as the"
            f" student's data set {settings.dataset.name} has, got one of"
            f" {results['num_classes']}; give a teacher of the same task"
        )
    record = records.read(Path(path) / records.CONFIG)
    assert record is not None, "a teacher's results are written after its config"
    return _module("config.teacher.path", record["config"]["teacher"]["model"], dataset)


def _finished_teacher(folder: Path) -> dict[str, Any]:
    """The results of a teacher that was trained before."""
    results = records.read(folder / records.RESULTS)
    if results is None or "num_classes" not in results:
        raise InputError(
            f"config.teacher.path: expected the folder of a finished teacher, got {folder};"
            " give the folder teacher/ of a finished run, or leave the path empty to train one"
        )
    return results


def _restore_best(folder: Path, module: nn.Module, dataset: Dataset) -> Variables:
    """The best variables among a stage's checkpoints."""
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _shapes(module, dataset))
    restored = None
    if folder.exists():
        with Checkpoints(folder, read_only=True) as checkpoints:
            restored = checkpoints.restore({"best": template})
    if restored is None:
        raise InputError(
            f"{folder}: expected checkpoints, got none; delete results.json beside them to"
            " train anew"
        )
    return restored[0]["best"]


def _shapes(module: nn.Module, dataset: Dataset) -> Any:
    """Shapes and types of a model's variables."""
    example = dataset.splits["train"].inputs[:1]
    return jax.eval_shape(module.init, jax.random.key(0), example)
