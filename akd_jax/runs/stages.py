"""Trains the stages of a method in order."""

import functools
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from absl import logging

from akd_jax.data import Examples
from akd_jax.host import processes
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.files import Path, delete_tree
from akd_jax.host.writers import MetricWriter
from akd_jax.models.network import Model, Network, count_parameters
from akd_jax.runs.checks import reads_prepared_inputs
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.examples import keep_inputs, stage_examples
from akd_jax.runs.scores import (
    split_scores,
    stage_evaluation,
    stage_select,
    test_scores,
    warn_if_no_better_than_constant,
)
from akd_jax.runs.setup import STUDENT, Plan
from akd_jax.runs.teachers import store_name, stored_folder, stored_outputs
from akd_jax.teachers.live import LiveTeacher, StoredTeacher
from akd_jax.teachers.stored import StoredOutputs, teacher_digest
from akd_jax.training.loop import Position, StageResult, train_stage
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage, StageContext
from akd_jax.training.stage_run import StageRun, build_stage
from akd_jax.types import Teacher, Variables


def train_method(
    plan: Plan,
    name: str,
    teachers: Mapping[str, Model],
    workdir: Path,
    *,
    seed: int,
    views: int,
    label: str,
) -> dict[str, Any]:
    """Trains the student, or a teacher, through the stages of its method.

    The checkpoints are in workdir/NAME/STAGE. The records are in workdir for the student, and in
    workdir/NAME for a teacher.

    Args:
      plan: the plan of the run.
      name: STUDENT or the name of a teacher.
      teachers: the teachers that the stages read, by name.
      workdir: the folder of the run.
      seed: the seed of the initial variables, the order of the examples and dropout.
      views: number of views of each example whose teacher outputs are stored; 0 runs the teachers
        inside the training step.
      label: the name of the training for progress bars and messages.

    Returns:
      'student': the scores of the last stage. 'stages': a summary of each stage. With stored
      outputs also 'teacher_cache': the number of views and the seconds of the teachers' passes.
    """
    method, network = plan.trained(name)
    folder = workdir / name
    evaluator = Evaluator(plan)
    key = jax.random.key(seed)
    initial = network.initial_variables(jax.random.fold_in(key, 0), plan.dataset.example)
    initial = method.initial_variables(
        Model(initial, network.apply), teachers, plan.dataset.example
    )
    writer = MetricWriter(workdir if name == STUDENT else folder)
    results: dict[str, StageResult] = {}
    summaries: list[dict[str, Any]] = []
    cache: dict[str, Any] = {}
    first_epoch = first_update = 0
    for number, stage in enumerate(method.stages, start=1):
        finished = {other: Model(x.best, network.apply) for other, x in results.items()}
        context = StageContext(
            plan.dataset,
            {**teachers, **finished},
            plan.batches,
            plan.tokenise,
            functools.partial(_digest, plan, network, teachers, finished),
            stored_folder(plan, workdir),
        )
        started = time.monotonic()
        examples = stage_examples(plan, stage, context)
        data_seconds = time.monotonic() - started
        stored: dict[str, StoredOutputs] = {}
        if views:
            stored = stored_outputs(plan, name, stage, teachers, examples, workdir)
        start = Model(initial if stage.start is None else results[stage.start].best, network.apply)
        outdated = [
            other
            for other in stored
            if reads_prepared_inputs(
                stage, start, teachers, plan.teachers[other].preprocess, examples, plan.dataset
            )
        ]
        if outdated:
            logging.warning(
                "stage %s: the stored outputs of %s are those of the batches before the stage"
                " prepares them; set config.teacher.views to 0 if the teachers must read the"
                " prepared batches",
                stage.name,
                ", ".join(outdated),
            )
        live = [plan.teachers[other] for other in stage.teachers if other not in stored]
        run = build_run(
            plan,
            stage,
            start,
            teachers,
            keep_inputs(examples, [network, *live], method.vocabularies),
            stored,
            key=jax.random.fold_in(key, number),
            seed=seed,
            views=views,
            loss_variables=(
                None if stage.loss_start is None else results[stage.loss_start].loss_variables
            ),
            loss_data=stage.build_loss_data(context),
        )
        stage_label = label if len(method.stages) == 1 else f"{label} {stage.name}"
        with Checkpoints(folder / stage.name) as checkpoints:
            if not checkpoints.has_reached(stage.epochs * (len(run.train) + 1)):
                # The later stages started from another result of this stage.
                for later in method.stages[number:]:
                    processes.on_primary(functools.partial(delete_tree, folder / later.name))
            results[stage.name] = train_stage(
                run,
                Position(stage_label, first_epoch, first_update),
                evaluate=stage_evaluation(stage, context, network, evaluator),
                select=stage_select(plan, stage),
                checkpoints=checkpoints,
                checkpoint_every=plan.settings.checkpoint_every,
                writer=writer,
                steps_per_loop=plan.settings.steps_per_loop,
            )
        warn_if_no_better_than_constant(plan, stage, results[stage.name], stage_label)
        summary = _summary(run, results[stage.name])
        if stage.data is not None:  # A teacher may have written its examples.
            summary |= {"data_seconds": round(data_seconds, 3), **context.notes}
        if stage.tests:
            best = Model(results[stage.name].best, network.apply)
            summary["tests"] = split_scores(plan, best, evaluator, stage.tests, stage_label)
        summaries.append(summary)
        cache |= {
            store_name(stage, other): {"views": len(x.views), "seconds": round(x.seconds, 3)}
            for other, x in stored.items()
        }
        first_epoch += stage.epochs
        first_update += stage.epochs * len(run.train)
    writer.close()
    scores = _final_scores(
        plan,
        method,
        results[stage.name],
        network,
        evaluator,
        label,
        folder=workdir if name == STUDENT else None,
    )
    trained: dict[str, Any] = {STUDENT: scores, "stages": summaries}
    return {**trained, "teacher_cache": cache} if cache else trained


def _digest(
    plan: Plan,
    network: Network,
    teachers: Mapping[str, Model],
    finished: Mapping[str, Model],
    name: str,
) -> str:
    """Returns the digest of a teacher, or of the best model of a finished stage."""
    if name in finished:
        return teacher_digest(network.module, finished[name].variables)
    return teacher_digest(plan.teachers[name].module, teachers[name].variables)


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
    loss_variables: Variables | None = None,
    loss_data: Variables | None = None,
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
      loss_variables: the variables that the loss starts from; None for its initial ones.
      loss_data: collections of the loss that hold data; None for no such collection.
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
        loss_variables=loss_variables,
        loss_data=loss_data,
        augmentation=plan.augmentation if plan.augmentation.active else None,
        grad_accumulation_steps=plan.settings.grad_accumulation_steps,
        skip_nonfinite=plan.settings.skip_nonfinite,
    )


def _final_scores(
    plan: Plan,
    method: Method,
    result: StageResult,
    network: Network,
    evaluator: Evaluator,
    label: str,
    *,
    folder: Path | None,
) -> dict[str, Any]:
    """Returns the scores of the last stage: the best student's, and the last one's on the tests."""
    scores = {
        "stage": method.stages[-1].name,
        "epoch": result.progress.best_epoch,
        "validation": result.progress.best_validation,
        "parameters": count_parameters(result.best),
    }
    if not method.predicts_labels:
        return {**scores, "test": None, "metrics": {}, "test_last": None}
    best, last = (Model(variables, network.apply) for variables in (result.best, result.last))
    scored = test_scores(plan, best, evaluator, f"{label}, best epoch", folder=folder)
    # The splits of a stage are those of the tasks that the network has learned.
    splits = method.stages[-1].tests or ("test",)
    of_best = _mean(scored["metrics"][split][plan.dataset.task.metric] for split in splits)
    of_last = of_best
    if result.progress.best_epoch < result.progress.epoch:
        of_last = _mean(
            split_scores(plan, last, evaluator, splits, f"{label}, last epoch").values()
        )
    return {**scores, **scored, "test": of_best, "test_last": of_last}


def _mean(scores: Iterable[float | None]) -> float | None:
    """Returns the mean of scores; None if one is not finite."""
    values = list(scores)
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite) if len(finite) == len(values) else None


def _summary(run: StageRun, result: StageResult) -> dict[str, Any]:
    """Returns the entry of a finished stage in results.json, without the time of its examples.

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
