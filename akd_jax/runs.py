"""A run: from a configuration to a distilled student, its scores and its checkpoints."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import (
    evaluation,
    loop,
    methods,
    models,
    optimizers,
    parallel,
    processes,
    records,
    teacher_cache,
)
from akd_jax.checkpoint import Checkpoints
from akd_jax.config import RunConfig
from akd_jax.data import Dataset
from akd_jax.data.text import TokenisedSplits, Vocabulary
from akd_jax.errors import InputError
from akd_jax.files import Path, absolute, delete_tree
from akd_jax.plan import (
    STUDENT,
    Plan,
    creates_teacher,
    make_plan,
    read_teacher_results,
    resume_key,
    shapes,
    teacher_resume_key,
)
from akd_jax.step import predict_step
from akd_jax.teachers import CachedTeacher, LiveTeacher
from akd_jax.types import (
    LearningRate,
    Method,
    Model,
    Network,
    Stage,
    Teacher,
    TrainState,
    Variables,
)
from akd_jax.writers import MetricWriter

TEACHER = "teacher"
TEACHER_LOGITS = "teacher_logits"
_IMPORTED = "imported"  # The stage of a teacher that was not trained here.


@dataclasses.dataclass(frozen=True)
class TrainedTeacher:
    """A teacher that is ready to teach.

    Attributes:
      model: its weights.
      results: what its results.json holds, the name of its architecture among it.
    """

    model: Model
    results: Mapping[str, Any]


def run(run_config: Any, workdir: str | Path) -> dict[str, Any]:
    """Trains the student, and before it the teachers that its method reads.

    Args:
      run_config: an ml_collections ConfigDict or a dict, with the fields of configs/default.py.
      workdir: folder of this run. Called again with the same configuration, the run goes on
        from its last checkpoints; a finished one only returns its results.

    Returns:
      What results.json holds: scores of teachers and student, and a summary of each stage.

    Raises:
      InputError: the configuration or the workdir does not fit; nothing was written.
      DivergedError: a loss or a gradient became infinite or no number.
      StoppedError: somebody asked to stop, see `akd_jax.interrupts`; called again, it goes on.
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
        return _results(folder) or _run(plan, folder)


def _run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Trains the student of a run whose folder is claimed, and writes its results."""
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
        **_truncated(plan),
        "devices": parallel.describe(),
    }
    processes.on_primary(lambda: records.write(folder / records.RESULTS, results))
    return results


def _results(folder: Path) -> dict[str, Any] | None:
    """What is in a folder's results.json, by the primary process; None where there is none."""
    return processes.on_primary(lambda: records.read(folder / records.RESULTS))


def obtain_teacher(plan: Plan, name: str, workdir: Path) -> TrainedTeacher:
    """Finds a teacher at its path; or trains it in workdir/NAME, goes on, or finds it finished.

    A fine-tuned one of Hugging Face is taken over into workdir/NAME. The folder has
    checkpoints, and a config.json and results.json of its own. Several runs can share it, as
    the path of their `config.teacher` or `config.takd.assistant`.

    Args:
      plan: of a run that reads the teacher.
      name: in `methods.TEACHERS`.
      workdir: of the run.

    Raises:
      InputError: the folder holds another teacher, or cannot be written.
    """
    if creates_teacher(plan.settings, name):
        _make_teacher(plan, name, workdir)
    return load_teacher(plan, name, workdir)


def load_teacher(plan: Plan, name: str, workdir: Path) -> TrainedTeacher:
    """A teacher that is finished, at its path or in workdir/NAME; nothing is written."""
    path = methods.teacher_config(plan.settings, name).path
    folder = workdir / name if creates_teacher(plan.settings, name) else absolute(path)
    results = read_teacher_results(f"config.{methods.TEACHER_FIELDS[name]}.path", folder)
    network = plan.teachers[name]
    variables = _restore_best(folder / results["stage"], network, plan.dataset)
    if teacher_cache.teacher_digest(network.module, variables) != results["digest"]:
        raise InputError(
            f"{folder}: expected the weights that its {records.RESULTS} tells of, got others; put"
            " back the folder as it was when the teacher was finished"
        )
    return TrainedTeacher(Model(variables, network.apply), results)


def predict(
    workdir: str | Path, split: str = "test", *, teachers: bool = True
) -> dict[str, np.ndarray]:
    """Logits of a finished run's student, and of the teachers it read, on a split.

    Args:
      workdir: of a run that finished.
      split: 'train', 'validation', 'test' or another of the data set's.
      teachers: whether the teachers are run too.

    Returns:
      'student' and the teachers' names to logits float32 [N, C], in the order of the split.

    Raises:
      InputError: the folder holds no finished run, or there is no such split.
    """
    plan, found = load(workdir, teachers=teachers)
    _check_split(plan, split)
    run_model, batches = predictor(), plan.batches(split)
    return {name: run_model(model, batches) for name, model in found.items()}


def evaluate(workdir: str | Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Metrics of a finished run's student, and of the teachers it read, on a split.

    Args:
      workdir: of a run that finished.
      split: 'train', 'validation', 'test' or another of the data set's.

    Returns:
      'student' and the teachers' names to metric names to values.

    Raises:
      InputError: the folder holds no finished run, or there is no such split.
    """
    plan, found = load(workdir)
    _check_split(plan, split)
    evaluator = evaluation.Evaluator(predictor(), plan.dataset.task)
    return {name: evaluator(model, plan.batches(split)) for name, model in found.items()}


def load(workdir: str | Path, *, teachers: bool = True) -> tuple[Plan, dict[str, Model]]:
    """A finished run's plan and networks.

    Args:
      workdir: of a run that finished.
      teachers: whether the teachers it read are loaded too.

    Returns:
      The plan; 'student', as chosen on validation, and the teachers' names to their models.

    Raises:
      InputError: the folder holds no finished run, or what it was made from (the data, a
        folder of weights) is gone or is another by now.
    """
    folder = absolute(workdir)
    record = processes.on_primary(lambda: records.read_config(folder))
    if record is None or record["kind"] != "run" or _results(folder) is None:
        kind = "none" if record is None else f"an unfinished one, or a {record['kind']}"
        raise InputError(
            f"{folder}: expected a finished run, got {kind}; run experiments.train on it first"
        )
    plan = make_plan(record["config"], teachers=teachers)
    found_key = resume_key(plan)
    if not teachers:
        found_key |= {name: record["resume_key"][name] for name in ("teacher", "takd")}
    remedy = "put back the data and folders that it was made from, or train anew"
    records.check_resume_key(folder, "run", record, found_key, remedy=remedy)
    student = plan.student
    last_stage = folder / STUDENT / plan.method.stages[-1].name
    found = {STUDENT: Model(_restore_best(last_stage, student, plan.dataset), student.apply)}
    for name in plan.method.teachers if teachers else ():
        found[name] = load_teacher(plan, name, folder).model
    return plan, found


def predictor() -> evaluation.Predictor:
    """Runs models over batches."""
    return evaluation.Predictor(parallel.compile_predict_step(predict_step))


def _check_split(plan: Plan, split: str) -> None:
    if split not in plan.dataset.splits:
        raise InputError(f"split: expected one of {', '.join(plan.dataset.splits)}, got {split!r}")


def _make_teacher(plan: Plan, name: str, workdir: Path) -> None:
    """Makes the teacher in workdir/NAME, as far as it is not there, and writes its results."""
    settings, folder = plan.settings, workdir / name
    section = methods.teacher_config(settings, name)
    method = methods.TEACHERS[name](settings)
    network = plan.teachers[name]
    common = {"dataset", "dtype", "batch_size", "grad_accumulation_steps"}
    common |= {"kd"} if method.teachers and not section.path else set()
    recorded = settings.model_dump(include=common)
    del recorded["dataset"]["data_dir"]
    recorded |= teacher_resume_key(settings, name)
    if method.teachers and not section.path:
        recorded["views"] = settings.teacher.views
    with records.lock_workdir(folder, "teacher", recorded):
        if _results(folder) is not None:
            return
        if section.path:
            trained, read = _take_over_teacher(plan, network, folder), {}
        else:
            read = {other: obtain_teacher(plan, other, workdir) for other in method.teachers}
            trained = _train(
                plan,
                method,
                network,
                read,
                folder=folder,
                metrics_folder=folder,
                cache_folder=_cache_folder(settings, workdir),
                seed=section.seed,
                # The teacher itself learns from as many views as it has epochs.
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
            **_teacher_scores(read),
            **trained,
        }
        processes.on_primary(lambda: records.write(folder / records.RESULTS, results))


def _take_over_teacher(plan: Plan, network: Network, folder: Path) -> dict[str, Any]:
    """Saves a teacher that was fine-tuned elsewhere; its scores, as `_train` returns them."""
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
    """Trains the stages of a method in their order.

    Returns:
      'student': the scores of the last stage; 'stages': a summary of each; and where the
      teachers are cached, 'teacher_cache': the views and the seconds of their passes.
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
                for later in method.stages[number:]:  # What came of an earlier training is void.
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
    """The state that a stage starts with, and the learning rate of its optimizer."""
    learning_rate = optimizers.learning_rate(stage, steps_per_epoch)
    state = TrainState.create(
        network.apply,
        variables,
        optimizer=optimizers.build(stage.optimizer, learning_rate),
        loss=stage.loss,
        # As data: of several processes pmap copies a typed key to the host, and so would wait
        # for each step before it starts the next one.
        key=jax.random.key_data(key),
        augment=plan.augmentation,
        grad_accumulation_steps=plan.settings.grad_accumulation_steps,
        skip_nonfinite=plan.settings.skip_nonfinite,
    )
    return state, learning_rate


def _cached_logits(
    plan: Plan, name: str, teacher: TrainedTeacher, folder: Path
) -> teacher_cache.TeacherLogits:
    """The teacher's logits for the views of the training split, made where they are missing."""
    settings = plan.settings
    batches = plan.batches("train")
    step = functools.partial(predict_step, augment=plan.augmentation)
    run_teacher = evaluation.Predictor(parallel.compile_predict_step(step))
    dataset, network, inputs = settings.dataset, plan.teachers[name], batches.examples.inputs
    if isinstance(network.preprocess, Vocabulary):
        inputs = network.preprocess(inputs)  # Whatever other networks read.
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
    """A model's scores on what there is to test on: 'test', the task's metric on the test
    split; 'metrics', all metrics of the task for each split.
    """
    tested = [split for split in plan.dataset.splits if split not in ("train", "validation")]
    found = {
        split: evaluation.finite_scores(evaluator(model, plan.batches(split)), f"{label}, {split}")
        for split in tested
    }
    return {"test": found["test"][plan.dataset.task.metric], "metrics": found}


def _truncated(plan: Plan) -> dict[str, Any]:
    """'truncated': how many texts of each split were cut; nothing where there are no texts."""
    splits = plan.dataset.splits
    return {"truncated": splits.truncated()} if isinstance(splits, TokenisedSplits) else {}


def _cache_folder(settings: RunConfig, workdir: Path) -> Path:
    shared = settings.teacher.cache_dir
    return absolute(shared) if shared else workdir / TEACHER_LOGITS


def _teacher_scores(teachers: Mapping[str, TrainedTeacher]) -> dict[str, Any]:
    """Each teacher's scores by its name; 'teacher' also where only another teacher read it."""
    scores: dict[str, Any] = {TEACHER: None}
    for name, teacher in teachers.items():
        scores[name] = {score: teacher.results[score] for score in ("validation", "test")}
        if name != TEACHER and scores[TEACHER] is None:
            scores[TEACHER] = teacher.results[TEACHER]
    return scores


def _restore_best(folder: Path, network: Network, dataset: Dataset) -> Variables:
    """The best variables among a stage's checkpoints."""
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes(network, dataset))
    restored = None
    if processes.on_primary(folder.exists):
        with Checkpoints(folder, read_only=True) as checkpoints:
            restored = checkpoints.restore({"best": template})
    if restored is None:
        raise InputError(
            f"{folder}: expected checkpoints, got none; give a folder that is whole, or train"
            " anew in another"
        )
    return restored[0]["best"]
