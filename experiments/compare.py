r"""Compares methods: trains students by each method with several seeds and shared teachers.

python -m experiments.compare --config=configs/digits.py --methods=scratch,kd,annealing_kd \
    --seeds=5 --workdir=DIR

All methods make about the same number of student updates, up to half an epoch, unless
--equal_updates=False. For a given seed, methods that train on the same examples get the same
batches. The same command resumes an interrupted comparison and reuses its finished runs. Texts are
decoded greedily; the command with --beams=5 scores the finished runs again by beam search, and
replaces the table, comparison.json and the report.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections.config_dict import ConfigDict

from akd_jax.host import processes, records
from akd_jax.host.errors import DivergedError, InputError
from akd_jax.host.files import Path, absolute
from akd_jax.runs import Plan, evaluation, make_plan
from experiments import cli, comparison_scores, comparison_table, html_report, options, searched
from experiments.grid import (
    Grid,
    check_equal_updates,
    row_config,
    run_grid,
    teacher_test_logits,
    test_logits,
    test_texts,
)
from experiments.tables import markdown_table

_CONFIG = options.config_flag()
_METHODS = options.methods_flag()
_REFERENCES = flags.DEFINE_list(
    "references", ["scratch", "kd"], "Rows that all others are compared with, if they are there."
)
_SEARCH = flags.DEFINE_string(
    "search",
    None,
    "Finished search, whose best settings the rows get: its folder, or its search.json. Give other"
    " seeds than it had.",
)
_EQUAL_UPDATES = options.equal_updates_flag()
_SEEDS = options.seeds_flag()
_BEAMS = options.beams_flag()
_WORKDIR = options.workdir_flag()
options.define_output_flags()

_MOST_NAMES = 10  # In the title of a report.


def compare_methods(
    config: ConfigDict,
    methods: Sequence[str],
    seeds: int,
    workdir: Path,
    references: Sequence[str] = ("scratch", "kd"),
    *,
    equal_updates: bool = True,
    beams: int = 1,
) -> dict[str, Any]:
    """Trains every method with every seed and compares their scores.

    Args:
      config: configuration of all runs. The comparison sets each run's method and seed, and the
        paths of the shared teachers.
      methods: names of methods, or of variants of the configuration; each is a row of the table.
      seeds: number of students of each method; their seeds count up from config.seed.
      workdir: folder for the teachers, their stored outputs and the runs METHOD/seed_N/.
      references: the rows that all others are compared with; those that are not in `methods` are
        left out.
      equal_updates: whether all methods must make about the same number of updates.
      beams: the number of beams of generated test texts; 1 decodes greedily.

    Returns:
      The contents of comparison.json.

    Raises:
      InputError: an argument is wrong, or `workdir` holds another comparison. Nothing is trained.
      DivergedError: all methods diverged. A method that diverges beside others has no scores.
    """
    if not methods or len(set(methods)) < len(methods):
        raise InputError(
            f"--methods: expected different names, got {', '.join(methods) or 'none'}; correct them"
        )
    plans = {method: make_plan(row_config(config, method)) for method in methods}
    if next(iter(plans.values())).dataset.task.target is None:
        options.require_greedy(beams)
    # The last seed must be in range as well.
    make_plan(row_config(config, methods[0], seed=config.seed + seeds - 1))
    if equal_updates:
        check_equal_updates(plans)
    workdir = absolute(workdir)
    with records.lock_workdir(workdir, "comparison", {}, subfolders=methods):
        grid = run_grid(config, plans, seeds, workdir)
        if not grid.results:
            raise DivergedError(f"all methods diverged; {next(iter(grid.diverged.values()))}")
        compared = [name for name in references if name in grid.results]
        comparison = _summary(grid, plans, seeds, workdir, compared, beams)
        processes.on_primary(lambda: records.write(workdir / html_report.COMPARISON, comparison))
    return comparison


def _summary(
    grid: Grid,
    plans: Mapping[str, Plan],
    seeds: int,
    workdir: Path,
    references: Sequence[str],
    beams: int,
) -> dict[str, Any]:
    """Returns the contents of comparison.json."""
    plan = next(iter(plans.values()))
    task, examples = plan.dataset.task, len(plan.dataset.splits["test"])
    if task.target:
        scores = _text_scores(grid, plans, workdir, references, beams)
    else:
        scores = _label_scores(grid, plans, workdir, references)
    entries = {
        method: {
            "runs": grid.folders[method],
            **comparison_scores.summarize_runs(grid.results[method], task.metric),
            **of_method,  # Of texts also 'test', which replaces that of greedy decoding.
        }
        for method, of_method in scores.items()
    }
    teachers = {
        name: {
            "test": teacher.results["test"],
            "seconds": round(sum(stage["seconds"] for stage in teacher.results["stages"]), 1),
        }
        for name, teacher in grid.teachers.items()
        if teacher.results
    }
    updates = {
        method: sum(stage["steps"] for stage in results[0]["stages"])
        for method, results in grid.results.items()
    }
    return {
        "title": f"{_title(plans)} on {plan.settings.dataset.name},"
        f" {seeds} seed{'s' * (seeds > 1)}",
        "metric": task.metric,
        **({"beams": beams} if task.target else {}),
        "references": list(references),
        "methods": entries,
        "diverged": dict(grid.diverged),
        "teachers": teachers,
        **comparison_table.table(entries, references, teachers, grid.diverged),
        "notes": [
            *comparison_table.notes(updates, seeds, examples, task, teachers, beams),
            *(f"{method} diverged: {error}." for method, error in grid.diverged.items()),
        ],
    }


def _label_scores(
    grid: Grid, plans: Mapping[str, Plan], workdir: Path, references: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns the statistics of each method's predictions of classes or numbers."""
    plan = next(iter(plans.values()))
    task, labels = plan.dataset.task, plan.dataset.splits["test"].labels
    logits, of_teacher = test_logits(grid, workdir), teacher_test_logits(grid, plans)
    return {
        method: comparison_scores.score_predictions(
            own,
            {name: logits[name] for name in references if name != method},
            labels,
            task,
            of_teacher,
        )
        for method, own in logits.items()
    }


def _text_scores(
    grid: Grid,
    plans: Mapping[str, Plan],
    workdir: Path,
    references: Sequence[str],
    beams: int,
) -> dict[str, dict[str, Any]]:
    """Returns the statistics of the texts that each method's students generate."""
    plan = next(iter(plans.values()))
    texts = test_texts(grid, workdir, beams)
    sources, targets = evaluation.sources(plan, "test"), evaluation.references(plan, "test")
    task, groups = plan.dataset.task, evaluation.groups(plan, "test")
    scores = {
        method: comparison_scores.score_texts(
            own,
            {name: texts[name] for name in references if name != method},
            sources,
            targets,
            task,
            groups,
        )
        for method, own in texts.items()
    }
    if task.group_metrics:
        for method, entry in scores.items():
            stream = comparison_scores.score_streams(grid.results[method])
            entry.update(stream, parts=entry["parts"] | stream["parts"])
    return scores


def _title(methods: Collection[str]) -> str:
    """Returns the names of a few methods, or the number of many."""
    return ", ".join(methods) if len(methods) <= _MOST_NAMES else f"{len(methods)} methods"


def main() -> None:
    """Compares the methods, prints the table and writes comparison.md and the HTML report."""
    workdir, config, methods = options.path(_WORKDIR), _CONFIG.value, _METHODS.value or []
    if _SEARCH.value:
        config = searched.use_best(config, methods, _SEEDS.value, options.path(_SEARCH))
    comparison = compare_methods(
        config,
        methods,
        _SEEDS.value,
        workdir,
        _REFERENCES.value,
        equal_updates=_EQUAL_UPDATES.value,
        beams=_BEAMS.value,
    )
    table = markdown_table(comparison["headers"], comparison["rows"])
    notes = "\n".join(f"- {note}" for note in comparison["notes"])
    cli.print_on_primary(f"\n{table}\n\n{notes}")

    def write_reports() -> str:
        (workdir / "comparison.md").write_text(f"{table}\n\n{notes}\n", encoding="utf-8")
        return str(html_report.write(workdir))

    cli.print_on_primary(f"Report: {processes.on_primary(write_reports)}")
    first = next(iter(comparison["methods"].values()))["runs"][0]
    cli.print_next({"score and cost of a student": f"evaluate --workdir={workdir / first}"})


if __name__ == "__main__":
    cli.launch(main, required=["config", "methods", "workdir"], several_processes=True)
