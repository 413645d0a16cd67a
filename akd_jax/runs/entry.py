"""Runs: train a student from a configuration; load, evaluate and apply a finished one."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import methods, models
from akd_jax.data import Dataset
from akd_jax.data.text import TokenisedSplits, Vocabulary
from akd_jax.host import processes, records
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute, delete_tree
from akd_jax.host.writers import MetricWriter
from akd_jax.models.network import Model, Network
from akd_jax.runs.config import RunConfig
from akd_jax.runs.setup import (
    STUDENT,
    Plan,
    creates_teacher,
    make_plan,
    read_teacher_results,
    resume_key,
    shapes,
    teacher_resume_key,
)
from akd_jax.teachers import stored as teacher_cache
from akd_jax.teachers.live import CachedTeacher, LiveTeacher
from akd_jax.training import evaluate as evaluation
from akd_jax.training import loop, optimizers, parallel
from akd_jax.training.stage import Method, Stage
from akd_jax.training.state import TrainState
from akd_jax.training.step import predict_step
from akd_jax.types import LearningRate, Teacher, Variables

TEACHER = "teacher"
TEACHER_LOGITS = "teacher_logits"
_IMPORTED = "imported"  # The stage of a teacher that comes from a Hugging Face folder.


@dataclasses.dataclass(frozen=True)
class TrainedTeacher:
    """A finished teacher.

    Attributes:
      model: the network with its best variables.
      results: the content of its results.json.
    """

    model: Model
    results: Mapping[str, Any]


def run(run_config: Any, workdir: str | Path) -> dict[str, Any]:
    """Trains a student and, first, the teachers that its method reads.

    With the workdir of an unfinished run and the same configuration, the run resumes from its
    latest checkpoints. With the workdir of a finished run, the function only returns its results.

    Args:
      run_config: an ml_collections ConfigDict or a dict with the fields of configs/default.py.
      workdir: the folder of the run.

    Returns:
      The content of results.json: the scores of the teachers and the student, and a summary of
      each stage.

    Raises:
      InputError: the configuration or the workdir is not valid; nothing was written.
      DivergedError: a loss or a gradient became NaN or infinite.
      StoppedError: a stop was requested, see `akd_jax.interrupts`; the next call resumes the run.
    """
    plan = make_plan(run_config)
    settings = plan.settings
    if not str(workdir):
        raise InputError("workdir: expected a folder, got an empty name")
    folder = absolute(workdir)
    if settings.teacher.views:
        cache_folder = _cache_folder(settings, folder)
        processes.on_primary(lambda: records.check_writable(cache_folder))
    with records.lock_workdir(
        folder,
        "run",
        settings.model_dump(),
        resume_key=resume_key(plan),
        subfolders=(STUDENT, *methods.TEACHERS, TEACHER_LOGITS),
    ):
        return _read_results(folder) or _train_run(plan, folder)


def _train_run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Trains the teachers and the student in a locked folder, and writes results.json."""
    settings = plan.settings
    teachers = {name: obtain_teacher(plan, name, folder) for name in plan.method.teachers}
    results = {
        "method": settings.method,
        "dataset": settings.dataset.name,
        "seed": settings.seed,
        "metric": plan.dataset.task.metric,
        "select_on": f"validation {plan.dataset.task.metric}",
        **_teacher_scores(teachers),
        **_train(
            plan,
            plan.method,
            plan.student,
            teachers,
            folder=folder / STUDENT,
            metrics_folder=folder,
            cache_folder=_cache_folder(settings, folder),
            seed=settings.seed,
            views=settings.teacher.views,
            label=f"{settings.method} seed {settings.seed}",
        ),
        **_truncation_counts(plan),
        "devices": processes.describe_devices(),
    }
    processes.on_primary(lambda: records.write(folder / records.RESULTS, results))
    return results


def _read_results(folder: Path) -> dict[str, Any] | None:
    """Returns the content of a folder's results.json, or None if there is no such file."""
    return processes.on_primary(lambda: records.read(folder / records.RESULTS))


def obtain_teacher(plan: Plan, name: str, workdir: Path) -> TrainedTeacher:
    """Loads a teacher; trains or imports it first if necessary.

    If the path of the teacher's configuration is the folder of a finished teacher, it is loaded
    from there. If the path is a Hugging Face folder, its model is imported into workdir/NAME. If
    the path is empty, the teacher is trained in workdir/NAME, or its training is resumed.

    workdir/NAME contains checkpoints, config.json and results.json. Several runs can share it:
    give it as the path of `config.teacher` or `config.takd.assistant`.

    Args:
      plan: the plan of a run that reads the teacher.
      name: the name of the teacher in `methods.TEACHERS`.
      workdir: the folder of the run.

    Raises:
      InputError: the folder contains a different teacher, or cannot be written.
    """
    if creates_teacher(plan.settings, name):
        _create_teacher(plan, name, workdir)
    return load_teacher(plan, name, workdir)


def load_teacher(plan: Plan, name: str, workdir: Path) -> TrainedTeacher:
    """Loads a finished teacher from its path or from workdir/NAME; writes nothing."""
    path = methods.teacher_config(plan.settings, name).path
    folder = workdir / name if creates_teacher(plan.settings, name) else absolute(path)
    results = read_teacher_results(f"config.{methods.TEACHER_FIELDS[name]}.path", folder)
    network = plan.teachers[name]
    variables = _restore_best(folder / results["stage"], network, plan.dataset)
    if teacher_cache.teacher_digest(network.module, variables) != results["digest"]:
        raise InputError(
            f"{folder}: expected the weights that its {records.RESULTS} describes, got different"
            " ones; restore the folder of the finished teacher"
        )
    return TrainedTeacher(Model(variables, network.apply), results)


def predict(
    workdir: str | Path, split: str = "test", *, teachers: bool = True
) -> dict[str, np.ndarray]:
    """Computes the logits of a finished run's student and teachers on a split.

    Args:
      workdir: the folder of a finished run.
      split: 'train', 'validation', 'test' or another split of the data set.
      teachers: whether to compute the teachers' logits too.

    Returns:
      The logits, float32 [N, C] in the order of the split, under 'student' and the names of the
      teachers.

    Raises:
      InputError: the folder contains no finished run, or the data set has no such split.
    """
    plan, model_by_name = load(workdir, teachers=teachers)
    _check_split(plan, split)
    run_model, batches = predictor(), plan.batches(split)
    return {name: run_model(model, batches) for name, model in model_by_name.items()}


def evaluate(workdir: str | Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Computes the metrics of a finished run's student and teachers on a split.

    Args:
      workdir: the folder of a finished run.
      split: 'train', 'validation', 'test' or another split of the data set.

    Returns:
      The metrics by name, under 'student' and the names of the teachers.

    Raises:
      InputError: the folder contains no finished run, or the data set has no such split.
    """
    plan, model_by_name = load(workdir)
    _check_split(plan, split)
    evaluator = evaluation.Evaluator(predictor(), plan.dataset.task)
    return {name: evaluator(model, plan.batches(split)) for name, model in model_by_name.items()}


def load(workdir: str | Path, *, teachers: bool = True) -> tuple[Plan, dict[str, Model]]:
    """Loads the plan and the models of a finished run.

    Args:
      workdir: the folder of a finished run.
      teachers: whether to load the teachers too.

    Returns:
      The plan, and the models under 'student' and the names of the teachers. The student is the
      best one on the validation split.

    Raises:
      InputError: the folder contains no finished run, or the data or pretrained weights that it
        was trained from are missing or have changed.
    """
    folder = absolute(workdir)
    record = processes.on_primary(lambda: records.read_config(folder))
    if record is None or record["kind"] != "run":
        actual = "none" if record is None else f"a {record['kind']}"
        raise InputError(
            f"{folder}: expected a finished run, got {actual}; give the workdir of a run"
        )
    if _read_results(folder) is None:
        raise InputError(
            f"{folder}: expected a finished run, got an unfinished one; run experiments.train on it"
            " first"
        )
    plan = make_plan(record["config"], teachers=teachers)
    current_key = resume_key(plan)
    if not teachers:
        current_key |= {name: record["resume_key"][name] for name in ("teacher", "takd")}
    remedy = "restore the data and the folders that the run was trained from, or train again"
    records.check_resume_key(folder, "run", record, current_key, remedy=remedy)
    student = plan.student
    last_stage = folder / STUDENT / plan.method.stages[-1].name
    variables = _restore_best(last_stage, student, plan.dataset)
    model_by_name = {STUDENT: Model(variables, student.apply)}
    for name in plan.method.teachers if teachers else ():
        model_by_name[name] = load_teacher(plan, name, folder).model
    return plan, model_by_name


def predictor() -> evaluation.Predictor:
    """Returns a function that computes the logits of a model on batches."""
    return evaluation.Predictor(parallel.compile_predict_step(predict_step))


def _check_split(plan: Plan, split: str) -> None:
    if split not in plan.dataset.splits:
        raise InputError(f"split: expected one of {', '.join(plan.dataset.splits)}, got {split!r}")


def _create_teacher(plan: Plan, name: str, workdir: Path) -> None:
    """Trains or imports a teacher in workdir/NAME, unless it is finished there."""
    settings, folder = plan.settings, workdir / name
    section = methods.teacher_config(settings, name)
    method = methods.TEACHERS[name](settings)
    network = plan.teachers[name]
    is_distilled = bool(method.teachers) and not section.path
    fields = {"dataset", "dtype", "batch_size", "grad_accumulation_steps"}
    config = settings.model_dump(include=fields | {"kd"} if is_distilled else fields)
    del config["dataset"]["data_dir"]  # The data can be moved.
    config |= teacher_resume_key(settings, name)
    if is_distilled:
        config["views"] = settings.teacher.views
    with records.lock_workdir(folder, "teacher", config):
        if _read_results(folder) is not None:
            return
        teachers: dict[str, TrainedTeacher] = {}
        if section.path:
            trained = _import_teacher(plan, network, folder)
        else:
            teachers = {other: obtain_teacher(plan, other, workdir) for other in method.teachers}
            trained = _train(
                plan,
                method,
                network,
                teachers,
                folder=folder,
                metrics_folder=folder,
                cache_folder=_cache_folder(settings, workdir),
                seed=section.seed,
                # A network that learns from labels only sees a new view in every epoch.
                views=settings.teacher.views if method.teachers else 0,
                label=name,
            )
        spec = models.absolute(f"huggingface:{section.path}" if section.path else section.model)
        scores = trained.pop(STUDENT)
        variables = _restore_best(folder / scores["stage"], network, plan.dataset)
        results = {
            **scores,
            "model": spec,
            "labels": list(plan.dataset.task.labels),
            "digest": teacher_cache.teacher_digest(network.module, variables),
            **_teacher_scores(teachers),
            **trained,
        }
        processes.on_primary(lambda: records.write(folder / records.RESULTS, results))


def _import_teacher(plan: Plan, network: Network, folder: Path) -> dict[str, Any]:
    """Saves and evaluates a teacher from a Hugging Face folder; returns results like `_train`."""
    variables = network.initial_variables(jax.random.key(0), plan.dataset.example)
    with Checkpoints(folder / _IMPORTED) as checkpoints:
        checkpoints.save(1, {"best": jax.device_get(variables)}, {})
    model = Model(variables, network.apply)
    evaluator = evaluation.Evaluator(predictor(), plan.dataset.task)
    scores = {"stage": _IMPORTED, "epoch": 0, **_scores(plan, evaluator, model, str(folder))}
    metric = plan.dataset.task.metric
    validation = evaluation.finite_scores(
        evaluator(model, plan.batches("validation")), f"{folder}, validation"
    )
    return {STUDENT: {**scores, "validation": validation[metric]}, "stages": []}


def _train(
    plan: Plan,
    method: Method,
    network: Network,
    teachers: Mapping[str, TrainedTeacher],
    *,
    folder: Path,
    metrics_folder: Path,
    cache_folder: Path,
    seed: int,
    views: int,
    label: str,
) -> dict[str, Any]:
    """Trains the stages of a method in order.

    Args:
      plan: the plan of the run.
      method: the method that trains the network.
      network: the network to train.
      teachers: the teachers that the stages read, by name.
      folder: the parent of the stages' checkpoint folders.
      metrics_folder: the folder of metrics.jsonl and the TensorBoard files.
      cache_folder: the folder of the teachers' stored logits.
      seed: the seed of the initial variables, the order of the examples and dropout.
      views: number of views of each example whose teacher logits are stored; 0 runs the teachers
        inside the training step.
      label: the name of the training for progress bars and messages.

    Returns:
      'student': the scores of the last stage. 'stages': a summary of each stage. With stored
      logits also 'teacher_cache': the number of views and the seconds of the teachers' passes.
    """
    settings = plan.settings
    cached = {
        name: _cached_logits(plan, name, teacher, cache_folder)
        for name, teacher in teachers.items()
        if views
    }
    evaluator = evaluation.Evaluator(predictor(), plan.dataset.task)
    key = jax.random.key(seed)
    initial = network.initial_variables(jax.random.fold_in(key, 0), plan.dataset.example)
    writer = MetricWriter(metrics_folder)
    results: dict[str, loop.StageResult] = {}
    stages = []
    first_epoch = 0
    for number, stage in enumerate(method.stages, start=1):
        train = plan.batches(
            "train",
            seed=seed,
            views=views,
            teacher_logits={name: cached[name].views for name in stage.teachers if cached},
        )
        stage_teachers: dict[str, Teacher] = {
            name: CachedTeacher(name) if cached else LiveTeacher(teachers[name].model)
            for name in stage.teachers
        }
        start = initial if stage.start is None else results[stage.start].best
        state, learning_rate = stage_state(
            plan, network, stage, start, jax.random.fold_in(key, number), len(train)
        )
        with Checkpoints(folder / stage.name) as checkpoints:
            if not checkpoints.has_reached(
                loop.checkpoint_number(loop.Progress(stage.epochs), train)
            ):
                # The later stages started from another result of this stage.
                for later in method.stages[number:]:
                    processes.on_primary(functools.partial(delete_tree, folder / later.name))
            results[stage.name] = loop.StageRun(
                stage,
                state,
                stage_teachers,
                train=train,
                validation=plan.batches("validation"),
                evaluate=evaluator,
                learning_rate=learning_rate,
                checkpoints=checkpoints,
                checkpoint_every=settings.checkpoint_every,
                writer=writer,
                label=label if len(method.stages) == 1 else f"{label} {stage.name}",
                first_epoch=first_epoch,
                steps_per_loop=settings.steps_per_loop,
            ).run()
        stages.append(loop.summary(stage, plan.dataset.task, results[stage.name].progress, train))
        first_epoch += stage.epochs
    writer.close()

    name, metric = method.stages[-1].name, plan.dataset.task.metric
    last = results[name]
    scores = {
        "stage": name,
        "epoch": last.progress.best_epoch,
        "validation": last.progress.best_validation,
        **_scores(plan, evaluator, Model(last.best, network.apply), f"{label}, best epoch"),
    }
    last_scores = evaluator(Model(last.last, network.apply), plan.batches("test"))
    scores["test_last"] = evaluation.finite_scores(last_scores, f"{label}, last epoch, test")[
        metric
    ]
    trained: dict[str, Any] = {STUDENT: scores, "stages": stages}
    if cached:
        trained["teacher_cache"] = {
            name: {"views": len(logits.views), "seconds": round(logits.seconds, 3)}
            for name, logits in cached.items()
        }
    return trained


def stage_state(
    plan: Plan,
    network: Network,
    stage: Stage,
    variables: Variables,
    key: jax.Array,
    steps_per_epoch: int,
) -> tuple[TrainState, LearningRate]:
    """Returns the initial state of a stage and the learning rate schedule of its optimizer."""
    learning_rate = optimizers.learning_rate(stage, steps_per_epoch)
    state = TrainState.create(
        network.apply,
        variables,
        optimizer=optimizers.build(stage.optimizer, learning_rate),
        loss=stage.loss,
        # With several processes, pmap copies a typed key to the host, and would wait for each
        # step before it starts the next one. Key data are not copied.
        key=jax.random.key_data(key),
        augment=plan.augmentation,
        grad_accumulation_steps=plan.settings.grad_accumulation_steps,
        skip_nonfinite=plan.settings.skip_nonfinite,
    )
    return state, learning_rate


def _cached_logits(
    plan: Plan, name: str, teacher: TrainedTeacher, folder: Path
) -> teacher_cache.TeacherLogits:
    """Loads a teacher's logits for all views of the training split; computes missing views."""
    settings = plan.settings
    batches = plan.batches("train")
    step = functools.partial(predict_step, augment=plan.augmentation)
    run_teacher = evaluation.Predictor(parallel.compile_predict_step(step))
    dataset, network, inputs = settings.dataset, plan.teachers[name], batches.examples.inputs
    if isinstance(network.preprocess, Vocabulary):
        inputs = network.preprocess(inputs)  # Do not depend on other networks' vocabularies.
    matmul = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]  # Not in stubs.
    return teacher_cache.load_or_build(
        folder,
        name,
        teacher_cache.Fingerprint(
            teacher=teacher_cache.teacher_digest(network.module, teacher.model.variables),
            data=teacher_cache.digest(inputs, name=repr(network.preprocess)),
            augmentation=f"crop_padding {dataset.crop_padding}, flip {dataset.flip}",
            seed=dataset.seed,
            precision=f"{settings.dtype} on {jax.default_backend()}, matmul precision {matmul}",
        ),
        settings.teacher.views,
        lambda view: run_teacher(teacher.model, batches, view),
    )


def _scores(
    plan: Plan, evaluator: evaluation.Evaluator, model: Model, label: str
) -> dict[str, Any]:
    """Evaluates a model on the test split and on all further splits of the data set.

    Returns:
      'test': the main metric on the test split. 'metrics': all metrics by split.
    """
    tested = [split for split in plan.dataset.splits if split not in ("train", "validation")]
    scores = {
        split: evaluation.finite_scores(evaluator(model, plan.batches(split)), f"{label}, {split}")
        for split in tested
    }
    return {"test": scores["test"][plan.dataset.task.metric], "metrics": scores}


def _truncation_counts(plan: Plan) -> dict[str, Any]:
    """Returns 'truncated', the number of truncated texts per split; empty without texts."""
    splits = plan.dataset.splits
    return {"truncated": splits.truncated()} if isinstance(splits, TokenisedSplits) else {}


def _cache_folder(settings: RunConfig, workdir: Path) -> Path:
    shared = settings.teacher.cache_dir
    return absolute(shared) if shared else workdir / TEACHER_LOGITS


def _teacher_scores(teachers: Mapping[str, TrainedTeacher]) -> dict[str, Any]:
    """Returns the scores of each teacher by name.

    'teacher' is always a key: with TAKD, its scores come from the results of the assistant.
    """
    scores: dict[str, Any] = {TEACHER: None}
    for name, teacher in teachers.items():
        scores[name] = {score: teacher.results[score] for score in ("validation", "test")}
        if name != TEACHER and scores[TEACHER] is None:
            scores[TEACHER] = teacher.results[TEACHER]
    return scores


def _restore_best(folder: Path, network: Network, dataset: Dataset) -> Variables:
    """Restores the best variables from a stage's latest checkpoint."""
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes(network, dataset))
    restored = None
    if processes.on_primary(folder.exists):
        with Checkpoints(folder, read_only=True) as checkpoints:
            restored = checkpoints.restore({"best": template})
    if restored is None:
        raise InputError(
            f"{folder}: expected checkpoints, got none; give a complete folder, or train again in"
            " another folder"
        )
    return restored[0]["best"]
