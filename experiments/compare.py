r"""Compares methods: trains students by each method with several seeds and shared teachers.

python -m experiments.compare --config=configs/digits.py --methods=scratch,kd,annealing_kd \
    --seeds=5 --workdir=DIR

All methods make the same number of student updates. For a given seed, they see the same batches.
The same command resumes an interrupted comparison and reuses its finished runs.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections.config_dict import ConfigDict

from akd_jax import methods as all_methods
from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute
from akd_jax.runs.entry import (
    TEACHER,
    TEACHER_LOGITS,
    TrainedTeacher,
    obtain_teacher,
    predict,
    predictor,
    run,
)
from akd_jax.runs.setup import STUDENT, Plan, creates_teacher, make_plan, resume_key
from experiments import cli, comparison_table, html_report
from experiments.tables import markdown_table, percent

_CONFIG = cli.config_flag()
_METHODS = flags.DEFINE_list(
    "methods", None, f"Methods to compare, among {', '.join(all_methods.METHODS)}."
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of students of each method.", lower_bound=1)
_WORKDIR = cli.workdir_flag()


def compare_methods(
    config: ConfigDict, methods: Sequence[str], seeds: int, workdir: Path
) -> dict[str, Any]:
    """Trains every method with every seed and compares their scores.

    Args:
      config: configuration of all runs. The comparison sets each run's method and seed, and the
        paths of the shared teachers.
      methods: names of the methods; each is a row of the table.
      seeds: number of students of each method; their seeds count up from config.seed.
      workdir: folder for the teachers, their logits and the runs METHOD/seed_N/.

    Returns:
      The contents of comparison.json.

    Raises:
      InputError: an argument is wrong, or `workdir` holds another comparison. Nothing is trained.
    """
    if not methods or len(set(methods)) < len(methods):
        raise InputError(f"--methods: expected different names, got {', '.join(methods) or 'none'}")
    plans = {method: make_plan(_with(config, method=method)) for method in methods}
    # The last seed must be in range as well.
    make_plan(_with(config, method=methods[0], seed=config.seed + seeds - 1))
    check_equal_epochs({method: plan.method.epochs for method, plan in plans.items()})
    workdir = absolute(workdir)
    with records.lock_workdir(workdir, "comparison", {}, subfolders=methods):
        return _compare(config, plans, seeds, workdir)


def check_equal_epochs(epochs: Mapping[str, int]) -> None:
    """Raises InputError unless all methods train the student for the same number of epochs."""
    if len(set(epochs.values())) > 1:
        raise InputError(f"expected methods with the same student epochs, got {dict(epochs)}")


def _compare(
    config: ConfigDict, plans: Mapping[str, Plan], seeds: int, workdir: Path
) -> dict[str, Any]:
    """Trains and compares the methods of checked plans, in a locked folder."""
    config, trained = _train_shared_teachers(config, plans, workdir)
    runs = {
        method: {
            f"{method}/seed_{seed}": _with(config, method=method, seed=seed)
            for seed in range(config.seed, config.seed + seeds)
        }
        for method in plans
    }
    _check_run_folders(runs, workdir)

    first = next(iter(plans.values()))
    task, labels = first.dataset.task, first.dataset.splits["test"].labels
    entries: dict[str, Any] = {}
    logits: dict[str, list[np.ndarray]] = {}
    for method, folders in runs.items():
        results = []
        logits[method] = []
        for folder, run_config in folders.items():
            results.append(run(run_config, workdir / folder))
            logits[method].append(predict(workdir / folder, teachers=False)[STUDENT])
            score = percent(results[-1][STUDENT]["test"])
            cli.print_on_primary(f"{folder}: test {task.metric} {score}")
        entries[method] = {"runs": list(folders), **comparison_table.summarize_runs(results)}
    teacher_logits = None
    if TEACHER in trained:
        teacher_logits = predictor()(trained[TEACHER].model, first.batches("test"))
    for method, entry in entries.items():
        references = {
            name: logits[name]
            for name in comparison_table.REFERENCES
            if name in entries and name != method
        }
        entry |= comparison_table.score_predictions(
            logits[method], references, labels, task, teacher_logits
        )

    teachers = {
        name: {
            "test": teacher.results["test"],
            "seconds": round(sum(stage["seconds"] for stage in teacher.results["stages"]), 1),
        }
        for name, teacher in trained.items()
    }
    updates = first.method.epochs * len(first.batches("train"))
    comparison = {
        "title": f"{', '.join(plans)} on {first.settings.dataset.name}, {seeds} seeds",
        "metric": task.metric,
        "methods": entries,
        "teachers": teachers,
        **comparison_table.table(entries, teachers),
        "notes": comparison_table.notes(updates, seeds, len(labels), task, teachers),
    }
    processes.on_primary(lambda: records.write(workdir / html_report.COMPARISON, comparison))
    return comparison


def _train_shared_teachers(
    config: ConfigDict, plans: Mapping[str, Plan], workdir: Path
) -> tuple[ConfigDict, dict[str, TrainedTeacher]]:
    """Trains the teachers of all methods, or loads those whose path is given.

    Returns:
      The configuration with the paths of the trained teachers, and the teachers by name.
    """
    trained: dict[str, TrainedTeacher] = {}
    paths: dict[str, str] = {}
    for plan in plans.values():
        for name in plan.teachers:
            if name not in trained:
                trained[name] = obtain_teacher(plan, name, workdir)
                if creates_teacher(plan.settings, name):
                    paths[f"{all_methods.TEACHER_FIELDS[name]}.path"] = str(workdir / name)
    config = _with(config)
    config.update_from_flattened_dict(paths)
    if not config.teacher.cache_dir:
        config.teacher.cache_dir = str(workdir / TEACHER_LOGITS)
    return config, trained


def _check_run_folders(runs: Mapping[str, Mapping[str, ConfigDict]], workdir: Path) -> None:
    """Raises InputError if a folder holds another run, before any student is trained."""
    for folders in runs.values():
        for folder, run_config in folders.items():
            key = resume_key(make_plan(run_config))
            check = functools.partial(records.check, workdir / folder, "run", key)
            processes.on_primary(check)


def _with(config: ConfigDict, **changes: Any) -> ConfigDict:
    """Returns a copy of the configuration with changed fields."""
    changed = config.copy_and_resolve_references()
    changed.update(changes)
    return changed


def main() -> None:
    """Compares the methods, prints the table and writes comparison.md and the HTML report."""
    workdir = cli.path(_WORKDIR)
    comparison = compare_methods(_CONFIG.value, _METHODS.value or [], _SEEDS.value, workdir)
    table = markdown_table(comparison["headers"], comparison["rows"])
    notes = "\n".join(f"- {note}" for note in comparison["notes"])
    cli.print_on_primary(f"\n{table}\n\n{notes}")

    def write_reports() -> str:
        (workdir / "comparison.md").write_text(f"{table}\n\n{notes}\n", encoding="utf-8")
        return str(html_report.write(workdir))

    cli.print_on_primary(f"Report: {processes.on_primary(write_reports)}")


if __name__ == "__main__":
    cli.launch(main, required=["config", "methods", "workdir"], several_processes=True)
