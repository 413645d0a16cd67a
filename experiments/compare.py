"""Trains students by several methods and seeds with one teacher, and compares them.

python -m experiments.compare --config=configs/digits.py --methods=scratch,kd,annealing_kd \
    --seeds=5 --workdir=DIR

All methods make the same number of student updates, on the same batches for a seed. Runs
that are finished are reused, so that the same command goes on where it stopped.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections.config_dict import ConfigDict

from akd_jax import records
from akd_jax.errors import InputError
from akd_jax.run import plan, run, train_teacher
from experiments import cli, pages

_CONFIG = cli.config_flag()
_METHODS = flags.DEFINE_list("methods", None, "Names in akd_jax.methods.METHODS.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Students of each method.", lower_bound=1)
_WORKDIR = cli.workdir_flag()


def compare(
    config: ConfigDict, methods: Sequence[str], seeds: int, workdir: Path
) -> dict[str, Any]:
    """Runs every method with every seed and returns what comparison.json holds.

    Args:
      config: of each run, but for its method, seed and teacher path.
      methods: names; each a row of the table.
      seeds: students of each method; their seeds count up from config.seed.
      workdir: holds teacher/ and METHOD/seed_N/.

    Raises:
      InputError: something does not fit, before anything is trained.
    """
    plans = {method: plan(_with(config, method=method)) for method in methods}
    updates = {method: planned.method.epochs for method, planned in plans.items()}
    if len(set(updates.values())) > 1:
        raise InputError(f"expected methods with the same student epochs, got {updates}")
    records.check_writable(workdir)

    teacher = None
    for planned in plans.values():
        if planned.teacher is not None and not planned.settings.teacher.path:
            teacher = train_teacher(planned, workdir / "teacher")
            break
    if teacher is not None:
        config = config.copy_and_resolve_references()
        config.teacher.path = str((workdir / "teacher").absolute())

    entries = {}
    for method in methods:
        folders = [f"{method}/seed_{config.seed + number}" for number in range(seeds)]
        results = []
        for number, folder in enumerate(folders):
            run_config = _with(config, method=method, seed=config.seed + number)
            results.append(run(run_config, workdir / folder))
            print(f"{folder}: test accuracy {results[-1]['student']['test']:.2%}", flush=True)
        entries[method] = _entry(results, folders)
        teacher = results[0]["teacher"] or teacher

    first = plans[methods[0]]
    steps = first.method.epochs * len(first.batches("train"))
    comparison = {
        "title": f"{', '.join(methods)} on {first.settings.dataset.name}, {seeds} seeds",
        "methods": entries,
        "headers": ["", "test accuracy, %", "at the last step, %", "students", "seconds each"],
        "rows": _rows(entries, teacher),
        "notes": [
            f"Mean and standard deviation over the seeds; every student made {steps:,} updates.",
            "Test accuracy at the checkpoint chosen on validation, and at the last step.",
        ],
    }
    records.write(workdir / pages.COMPARISON, comparison)
    return comparison


def _with(config: ConfigDict, **changes: Any) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    changed.update(changes)
    return changed


def _entry(results: Sequence[dict[str, Any]], folders: Sequence[str]) -> dict[str, Any]:
    """One method's scores over the seeds."""
    entry: dict[str, Any] = {"runs": list(folders), "n": len(results)}
    for score in ("validation", "test", "test_last"):
        values = [found["student"][score] for found in results]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        entry[score] = {"mean": statistics.mean(values), "std": deviation, "values": values}
    seconds = [sum(stage["seconds"] for stage in found["stages"]) for found in results]
    entry["seconds"] = round(statistics.mean(seconds), 2)
    return entry


def _rows(entries: dict[str, dict[str, Any]], teacher: dict[str, Any] | None) -> list[list[str]]:
    rows = [
        [
            method,
            _percent(entry["test"]),
            _percent(entry["test_last"]),
            str(entry["n"]),
            f"{entry['seconds']:.1f}",
        ]
        for method, entry in entries.items()
    ]
    if teacher is not None:
        rows.insert(0, ["(teacher)", f"{100 * teacher['test']:.2f}", "", "", ""])
    return rows


def _percent(score: dict[str, Any]) -> str:
    mean = f"{100 * score['mean']:.2f}"
    return mean if score["std"] is None else f"{mean} ± {100 * score['std']:.2f}"


def main() -> None:
    """Compares what the flags say, prints the table and writes the report."""
    workdir = Path(_WORKDIR.value)
    comparison = compare(_CONFIG.value, _METHODS.value or [], _SEEDS.value, workdir)
    table = cli.table(comparison["headers"], comparison["rows"])
    notes = "\n".join(comparison["notes"])
    (workdir / "comparison.md").write_text(f"{table}\n\n{notes}\n", encoding="utf-8")
    print(f"\n{table}\n\n{notes}")
    print(f"Report: {pages.write(workdir)}")


if __name__ == "__main__":
    cli.launch(main, required=["config", "methods", "workdir"])
