"""Trains the stages of a method in order."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from akd_jax import metrics
from akd_jax.data import Examples
from akd_jax.host import processes
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, delete_tree
from akd_jax.host.writers import MetricWriter
from akd_jax.models.network import Model, Network
from akd_jax.runs.checks import stage_features
from akd_jax.runs.setup import STUDENT, Plan
from akd_jax.runs.teachers import stored_outputs
from akd_jax.teachers.live import LiveTeacher, StoredTeacher
from akd_jax.teachers.stored import StoredOutputs
from akd_jax.training.evaluate import Predictor, TaskMetrics, finite_scores
from akd_jax.training.loop import Position, StageResult, train_stage
from akd_jax.training.stage import Evaluate, Method, Select, Stage, StageContext
from akd_jax.training.stage_run import StageRun, build_stage
from akd_jax.types import Teacher


def train_method(
    plan: Plan,
    method: Method,
    network: Network,
    teachers: Mapping[str, Model],
    *,
    workdir: Path,
    folder: Path,
    metrics_folder: Path,
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
      workdir: the folder of the run, for the teachers' stored outputs.
      folder: the parent of the stages' checkpoint folders.
      metrics_folder: the folder of metrics.jsonl and the TensorBoard files.
      seed: the seed of the initial variables, the order of the examples and dropout.
      views: number of views of each example whose teacher outputs are stored; 0 runs the teachers
        inside the training step.
      label: the name of the training for progress bars and messages.

    Returns:
      'student': the scores of the last stage. 'stages': a summary of each stage. With stored
      outputs also 'teacher_cache': the number of views and the seconds of the teachers' passes.
    """
    predictor = Predictor()
    key = jax.random.key(seed)
    initial = network.initial_variables(jax.random.fold_in(key, 0), plan.dataset.example)
    writer = MetricWriter(metrics_folder)
    results: dict[str, StageResult] = {}
    summaries: list[dict[str, Any]] = []
    cache: dict[str, Any] = {}
    first_epoch = first_update = 0
    for number, stage in enumerate(method.stages, start=1):
        finished = {name: Model(x.best, network.apply) for name, x in results.items()}
        context = StageContext(plan.dataset, {**teachers, **finished}, seed)
        examples = stage_examples(plan, stage, context)
        stored = {
            name: stored_outputs(plan, name, teachers[name], plan.batches(examples), names, workdir)
            for name, names in stage_features(
                plan.settings, plan.dataset, stage, network, plan.teachers
            ).items()
            if views
        }
        run = build_run(
            plan,
            stage,
            Model(initial if stage.start is None else results[stage.start].best, network.apply),
            teachers,
            examples,
            stored,
            key=jax.random.fold_in(key, number),
            seed=seed,
            views=views,
        )
        evaluate, select = stage_evaluation(plan, stage, context, predictor)
        stage_label = label if len(method.stages) == 1 else f"{label} {stage.name}"
        with Checkpoints(folder / stage.name) as checkpoints:
            if not checkpoints.has_reached(stage.epochs * (len(run.train) + 1)):
                # The later stages started from another result of this stage.
                for later in method.stages[number:]:
                    processes.on_primary(functools.partial(delete_tree, folder / later.name))
            results[stage.name] = train_stage(
                run,
                Position(stage_label, first_epoch, first_update),
                evaluate=evaluate,
                select=select,
                checkpoints=checkpoints,
                checkpoint_every=plan.settings.checkpoint_every,
                writer=writer,
                steps_per_loop=plan.settings.steps_per_loop,
            )
        if stage.evaluate is None:
            _warn_if_no_better_than_constant(plan, stage, results[stage.name], stage_label)
        summaries.append(_summary(run, results[stage.name]))
        cache |= {
            name: {"views": len(outputs.views), "seconds": round(outputs.seconds, 3)}
            for name, outputs in stored.items()
        }
        first_epoch += stage.epochs
        first_update += stage.epochs * len(run.train)
    writer.close()

    name, last = method.stages[-1].name, results[method.stages[-1].name]
    scores = {
        "stage": name,
        "epoch": last.progress.best_epoch,
        "validation": last.progress.best_validation,
        **test_scores(plan, Model(last.best, network.apply), predictor, f"{label}, best epoch"),
    }
    evaluate_test = TaskMetrics(predictor, plan.batches("test"), plan.dataset.task)
    last_scores = finite_scores(
        evaluate_test(Model(last.last, network.apply)), f"{label}, last epoch, test"
    )
    scores["test_last"] = last_scores[plan.dataset.task.metric]
    trained: dict[str, Any] = {STUDENT: scores, "stages": summaries}
    return {**trained, "teacher_cache": cache} if cache else trained


def build_run(
    plan: Plan,
    stage: Stage,
    student: Model,
    teachers: Mapping[str, Model],
    examples: Examples,
    stored: Mapping[str, StoredOutputs],
    *,
    key: jax.Array,
    seed: int,
    views: int,
) -> StageRun:
    """Builds a stage with the settings of a run.

    Args:
      plan: the plan of the run.
      stage: the stage.
      student: the student with the variables that the stage starts from.
      teachers: all teachers by name.
      examples: the training examples.
      stored: the stored outputs of the teachers that have some, by name.
      key: PRNG key of the stage.
      seed: the seed of the order of the examples.
      views: number of views of each example; 0 for a new one in every epoch.
    """
    train = plan.batches(
        examples,
        seed=seed,
        views=views,
        stored={name: outputs.views for name, outputs in stored.items()},
    )
    stage_teachers: dict[str, Teacher] = {
        name: StoredTeacher(name) if name in stored else LiveTeacher(teachers[name])
        for name in stage.teachers
    }
    return build_stage(
        stage,
        student,
        stage_teachers,
        train,
        key=key,
        augmentation=plan.augmentation if plan.augmentation.active else None,
        grad_accumulation_steps=plan.settings.grad_accumulation_steps,
        skip_nonfinite=plan.settings.skip_nonfinite,
    )


def stage_examples(plan: Plan, stage: Stage, context: StageContext) -> Examples:
    """Returns the training examples of a stage.

    Raises:
      InputError: there are none.
    """
    if stage.data is None:
        return plan.dataset.splits["train"]
    examples = stage.data(context)
    if not len(examples):
        raise InputError(
            f"stage {stage.name}: expected training examples from its data function, got none;"
            " return at least one"
        )
    return examples


def stage_evaluation(
    plan: Plan, stage: Stage, context: StageContext, predictor: Predictor
) -> tuple[Evaluate, Select]:
    """Returns the evaluation of a stage, and the score that selects the best student."""
    task = plan.dataset.task
    select: Select = stage.select or (task.metric, "max")
    if stage.evaluate is not None:
        return stage.evaluate(context), select
    return TaskMetrics(predictor, plan.batches("validation"), task), select


def test_scores(plan: Plan, model: Model, predictor: Predictor, label: str) -> dict[str, Any]:
    """Evaluates a model on the test split and on all further splits of the data set.

    Returns:
      'test': the main metric on the test split. 'metrics': all metrics by split.
    """
    task = plan.dataset.task
    scores = {
        split: finite_scores(
            TaskMetrics(predictor, plan.batches(split), task)(model), f"{label}, {split}"
        )
        for split in plan.dataset.splits
        if split not in ("train", "validation")
    }
    return {"test": scores["test"][task.metric], "metrics": scores}


def _warn_if_no_better_than_constant(
    plan: Plan, stage: Stage, result: StageResult, label: str
) -> None:
    """Logs a warning if the last student scores no better than a constant predictor."""
    metric, score = plan.dataset.task.metric, result.progress.last_validation
    labels = plan.dataset.splits["validation"].labels
    constant = metrics.constant_predictor_score(metric, labels)
    if score is not None and constant is not None and score <= constant:
        logging.warning(
            "%s: validation %s %.3f is no better than a constant predictor, which reaches up"
            " to %.3f; try a learning rate below %g",
            label,
            metric,
            score,
            constant,
            stage.optimizer.learning_rate,
        )


def _summary(run: StageRun, result: StageResult) -> dict[str, Any]:
    """Returns the entry of a finished stage in results.json.

    'temperatures' are those that the loss used. For texts the entry has the share of padding
    among the tokens.
    """
    temperatures = run.values.schedules.get("temperature", ())
    return {
        "name": run.stage.name,
        "epochs": run.stage.epochs,
        "steps": run.stage.epochs * len(run.train),
        "temperatures": list(dict.fromkeys(float(x) for x in temperatures)),
        **result.progress.summary(),
        **({"padding": round(run.train.padding(), 4)} if run.train.buckets else {}),
    }
