"""Trains a student from a configuration, with its teachers."""

import functools
from collections.abc import Mapping
from typing import Any

from akd_jax.data.text import TokenisedSplits
from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute, delete_tree
from akd_jax.runs.creation import obtain_teacher
from akd_jax.runs.resume import creates_teacher, resume_key
from akd_jax.runs.scores import compare_with_teachers, select_on
from akd_jax.runs.setup import STORED_OUTPUTS, STUDENT, Plan, make_plan
from akd_jax.runs.stages import train_method
from akd_jax.runs.teachers import FinishedTeacher, stored_folder, teacher_scores


def run(
    run_config: Any,
    workdir: str | Path,
    *,
    loaded: Mapping[str, FinishedTeacher] | None = None,
) -> dict[str, Any]:
    """Trains a student and, first, the teachers that its method reads.

    With the workdir of an unfinished run and the same configuration, the run resumes from its
    latest checkpoints. With the workdir of a finished run, the function only returns its results.

    Args:
      run_config: an ml_collections ConfigDict or a dict with the fields of configs/default.py.
      workdir: the folder of the run.
      loaded: finished teachers that are in memory already, by name, such as those that the runs of
        a comparison share; all others are read from their folders, or trained.

    Returns:
      The content of results.json: the scores of the teachers and the student, and a summary of
      each stage.

    Raises:
      InputError: the configuration or the workdir is not valid; nothing was written. Or the
        examples or the scores of a stage are not valid; this is known when the stage starts or
        at the end of its first epoch.
      DivergedError: a loss or a gradient became NaN or infinite.
      StoppedError: a stop was requested, see `akd_jax.host.interrupts`; the next call resumes the
        run.
    """
    plan = make_plan(run_config)
    settings = plan.settings
    if not str(workdir):
        raise InputError("workdir: expected a folder, got an empty name; give one")
    folder = absolute(workdir)
    if settings.teacher.views:
        outputs_folder = stored_folder(plan, folder)
        processes.on_primary(lambda: records.check_writable(outputs_folder))
    with records.lock_workdir(
        folder,
        "run",
        settings.model_dump(),
        resume_key=resume_key(settings, plan.dataset.task, plan.method.teachers),
        subfolders=(STUDENT, *plan.recipes, STORED_OUTPUTS),
    ):
        results = processes.on_primary(lambda: records.read(folder / records.RESULTS))
        return results or _train_run(plan, folder, loaded or {})


def _train_run(plan: Plan, folder: Path, loaded: Mapping[str, FinishedTeacher]) -> dict[str, Any]:
    """Trains the teachers and the student in a locked folder, and writes results.json."""
    settings = plan.settings
    teachers = {
        name: loaded[name].of(plan.teachers[name])
        if name in loaded
        else obtain_teacher(plan, name, folder)
        for name in plan.method.teachers
    }
    trained = train_method(
        plan,
        STUDENT,
        {name: teacher.model for name, teacher in teachers.items()},
        folder,
        seed=settings.seed,
        views=settings.teacher.views,
        label=f"{settings.method} seed {settings.seed}",
    )
    of_teachers = {name: teacher.results for name, teacher in teachers.items()}
    for stage, summary in zip(plan.method.stages, trained["stages"], strict=True):
        summary |= compare_with_teachers(stage, summary, of_teachers)
    results = {
        "method": settings.method,
        "dataset": settings.dataset.name,
        "seed": settings.seed,
        "metric": plan.dataset.task.metric,
        "select_on": select_on(plan, plan.method.stages[-1]),
        **teacher_scores(teachers),
        **trained,
        **_truncation_counts(plan),
        "devices": processes.describe_devices(),
    }
    processes.on_primary(lambda: records.write(folder / records.RESULTS, results))
    if not plan.method.keeps_teachers:
        for name, recipe in plan.recipes.items():
            if creates_teacher(recipe):
                weights = folder / name / teachers[name].results["stage"]
                processes.on_primary(functools.partial(delete_tree, weights))
    return results


def _truncation_counts(plan: Plan) -> dict[str, Any]:
    """Returns 'truncated', the number of truncated texts per split; empty without texts."""
    splits = plan.dataset.splits
    return {"truncated": splits.truncated()} if isinstance(splits, TokenisedSplits) else {}
