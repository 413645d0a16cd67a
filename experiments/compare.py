"""Trains students by several methods and seeds with one teacher, and compares them.

python -m experiments.compare --config=configs/digits.py --methods=scratch,kd,annealing_kd \
    --seeds=5 --workdir=DIR

All methods make the same number of student updates, on the same batches for a seed. Runs
that are finished are reused, so that the same command goes on where it stopped.
"""

import functools
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from absl import flags
from ml_collections.config_dict import ConfigDict

from akd_jax import methods as all_methods
from akd_jax import processes, records
from akd_jax.errors import InputError
from akd_jax.files import Path, absolute
from akd_jax.plan import STUDENT, Plan, creates_teacher, make_plan, resume_key
from akd_jax.runs import (
    TEACHER,
    TEACHER_LOGITS,
    TrainedTeacher,
    obtain_teacher,
    predict,
    predictor,
    run,
)
from akd_jax.types import Task
from experiments import cli, html_report, statistics

_CONFIG = cli.config_flag()
_METHODS = flags.DEFINE_list("methods", None, "Names in akd_jax.methods.METHODS.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Students of each method.", lower_bound=1)
_WORKDIR = cli.workdir_flag()

_REFERENCES = ("scratch", "kd")  # Methods that the others are set against.


def compare_methods(
    config: ConfigDict, methods: Sequence[str], seeds: int, workdir: Path
) -> dict[str, Any]:
    """Runs every method with every seed and returns what comparison.json holds.

    Args:
      config: of each run, but for its method, its seed, and its teachers' paths.
      methods: names; each a row of the table.
      seeds: students of each method; their seeds count up from config.seed.
      workdir: holds the teachers, their logits, and METHOD/seed_N/.

    Raises:
      InputError: something does not fit, before anything is trained.
    """
    if not methods or len(set(methods)) < len(methods):
        raise InputError(f"--methods: expected different names, got {', '.join(methods) or 'none'}")
    plans = {method: make_plan(_with(config, method=method)) for method in methods}
    make_plan(
        _with(config, method=methods[0], seed=config.seed + seeds - 1)
    )  # The last one fits too.
    updates = {method: plan.method.epochs for method, plan in plans.items()}
    if len(set(updates.values())) > 1:
        raise InputError(f"expected methods with the same student epochs, got {updates}")
    workdir = absolute(workdir)
    with records.lock_workdir(workdir, "comparison", {}, subfolders=methods):
        return _compare(config, plans, seeds, workdir)


def _compare(
    config: ConfigDict, plans: Mapping[str, Plan], seeds: int, workdir: Path
) -> dict[str, Any]:
    """Runs what `compare_methods` has checked, in a folder that is claimed."""
    config, trained = _shared_teachers(config, plans, workdir)
    teachers = {
        name: {
            "test": teacher.results["test"],
            "seconds": round(sum(stage["seconds"] for stage in teacher.results["stages"]), 1),
        }
        for name, teacher in trained.items()
    }
    runs = {
        method: {
            f"{method}/seed_{seed}": _with(config, method=method, seed=seed)
            for seed in range(config.seed, config.seed + seeds)
        }
        for method in plans
    }
    for folders in runs.values():  # All of them, before the first is trained.
        for folder, run_config in folders.items():
            wanted = resume_key(make_plan(run_config))
            check = functools.partial(records.check, workdir / folder, "run", wanted)
            processes.on_primary(check)

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
            cli.print_on_primary(f"{folder}: test {task.metric} {results[-1][STUDENT]['test']:.2%}")
        entries[method] = {"runs": list(folders), **_entry(results)}
    teacher_logits = None
    if TEACHER in trained:
        teacher_logits = predictor()(trained[TEACHER].model, first.batches("test"))
    _score_predictions(entries, logits, labels, task, teacher_logits)

    steps = first.method.epochs * len(first.batches("train"))
    comparison = {
        "title": f"{', '.join(plans)} on {first.settings.dataset.name}, {seeds} seeds",
        "metric": task.metric,
        "methods": entries,
        "teachers": teachers,
        **_table(entries, teachers),
        "notes": _notes(steps, seeds, len(labels), task, teachers),
    }
    processes.on_primary(lambda: records.write(workdir / html_report.COMPARISON, comparison))
    return comparison


def _score_predictions(
    entries: dict[str, Any],
    logits: Mapping[str, Sequence[np.ndarray]],
    labels: np.ndarray,
    task: Task,
    teacher_logits: np.ndarray | None,
) -> None:
    """Adds to each method's entry what its students' logits on the test split say."""
    for method, entry in entries.items():
        if not task.regression:
            entry["calibration_error"] = _summary(
                [statistics.expected_calibration_error(found, labels) for found in logits[method]]
            )
        if teacher_logits is not None and not task.regression:
            entry["agreement"] = _summary(
                [statistics.agreement(found, teacher_logits) for found in logits[method]]
            )
        entry["against"] = {
            reference: list(
                statistics.paired_bootstrap(
                    statistics.difference(logits[method], logits[reference], labels, task),
                    seeds=len(logits[method]),
                    examples=len(labels),
                )
            )
            for reference in _REFERENCES
            if reference in entries and reference != method
        }


def _with(config: ConfigDict, **changes: Any) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    changed.update(changes)
    return changed


def _shared_teachers(
    config: ConfigDict, plans: Mapping[str, Plan], workdir: Path
) -> tuple[ConfigDict, dict[str, TrainedTeacher]]:
    """Trains each teacher that is read and has no path.

    Returns:
      The configuration with the teachers' paths, and the teachers by name.
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


def _entry(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One method's scores over the seeds."""
    seconds = [sum(stage["seconds"] for stage in found["stages"]) for found in results]
    passes = [
        sum(cache["seconds"] for cache in found.get("teacher_cache", {}).values())
        for found in results
    ]
    return {
        "n": len(results),
        **{
            score: _summary([found[STUDENT][score] for found in results])
            for score in ("validation", "test", "test_last")
        },
        "seconds": round(mean(seconds), 2),
        "teacher_seconds": round(max(passes), 2),
    }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    deviation = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values), "std": deviation, "values": list(values)}


def _table(entries: Mapping[str, Any], teachers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers and rows, as text, all scores in percent."""
    references = [name for name in _REFERENCES if name in entries]
    headers = ["", "test", "last step", *(f"vs {name}" for name in references)]
    headers += ["agreement", "ECE", "n", "s", "teacher s"]
    blank = [""] * (len(headers) - 2)
    rows = [[f"({name})", f"{100 * found['test']:.2f}", *blank] for name, found in teachers.items()]
    for method, entry in entries.items():
        intervals = [
            " to ".join(f"{100 * end:+.2f}" for end in entry["against"].get(name, ()))
            for name in references
        ]
        rows.append(
            [
                method,
                _percent(entry["test"]),
                _percent(entry["test_last"]),
                *intervals,
                *(
                    _percent(entry[score]) if score in entry else ""
                    for score in ("agreement", "calibration_error")
                ),
                str(entry["n"]),
                f"{entry['seconds']:.1f}",
                f"{entry['teacher_seconds']:.1f}",
            ]
        )
    return {"headers": headers, "rows": rows}


def _notes(
    steps: int, seeds: int, examples: int, task: Task, teachers: Mapping[str, Any]
) -> list[str]:
    notes = [
        f"In percent, mean ± standard deviation over {seeds} seeds; {examples:,} test examples."
        f" Every student made {steps:,} updates.",
        f"test: {task.metric} at the checkpoint chosen on validation; last step: at the end.",
        "vs: 95 % interval of the difference between these, from a bootstrap over seeds and"
        " test examples, paired. One that contains 0 shows no difference; with few seeds, one"
        " that just excludes 0 does not show much either.",
        "agreement: test examples classified as the teacher does. ECE: expected calibration"
        " error over 15 bins.",
        "s: seconds of a student's training. teacher s: seconds of the passes that stored the"
        " teacher's logits, shared by all students; where none are stored, the teacher runs"
        " within the student's seconds.",
    ]
    if teachers:
        trained = ", ".join(f"{name} {found['seconds']} s" for name, found in teachers.items())
        notes.append(f"Trained once: {trained}.")
    return notes


def _percent(score: Mapping[str, Any]) -> str:
    mean = f"{100 * score['mean']:.2f}"
    return mean if score["std"] is None else f"{mean} ± {100 * score['std']:.2f}"


def main() -> None:
    """Compares what the flags say, prints the table and writes the report."""
    workdir = cli.path(_WORKDIR)
    comparison = compare_methods(_CONFIG.value, _METHODS.value or [], _SEEDS.value, workdir)
    table = cli.markdown_table(comparison["headers"], comparison["rows"])
    notes = "\n".join(f"- {note}" for note in comparison["notes"])
    cli.print_on_primary(f"\n{table}\n\n{notes}")

    def write() -> str:
        (workdir / "comparison.md").write_text(f"{table}\n\n{notes}\n", encoding="utf-8")
        return str(html_report.write(workdir))

    cli.print_on_primary(f"Report: {processes.on_primary(write)}")


if __name__ == "__main__":
    cli.launch(main, required=["config", "methods", "workdir"], several_processes=True)
