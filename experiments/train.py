"""Trains one student, and the teachers of its method.

python -m experiments.train --config=configs/digits.py:annealing_kd --workdir=DIR

The same command resumes an interrupted run from its last checkpoint. --dry_run builds all
networks, takes two steps of each of the student's stages, prints their cost, and writes nothing.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from akd_jax.host import processes, records
from akd_jax.runs import STUDENT, rehearse, run
from experiments import cli, html_report, options
from experiments.tables import markdown_table, network_scores, percent

_CONFIG = options.config_flag()
_WORKDIR = options.workdir_flag()
options.define_output_flags()
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Compile the student's stages, print their cost and write nothing."
)

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60  # Largest number of characters of a drawn schedule.


def main() -> None:
    """Trains the student and prints its scores, or prints the cost with --dry_run."""
    if _DRY_RUN.value:
        cli.print_on_primary(dry_run_report(rehearse(_CONFIG.value)))
        return
    workdir = options.path(_WORKDIR)
    finished = processes.on_primary(lambda: records.read(workdir / records.RESULTS) is not None)
    results = run(_CONFIG.value, workdir)
    if finished:
        cli.print_on_primary(f"The run in {workdir} is already finished; nothing was trained.")
    cli.print_on_primary(scores_table(results))
    if "truncated" in results:
        cli.print_on_primary(text_statistics(results))
    cli.print_on_primary(f"Report: {processes.on_primary(lambda: str(html_report.write(workdir)))}")
    cli.print_next(
        {
            "score and cost": f"evaluate --workdir={workdir}",
            "new examples": f"predict --workdir={workdir} --input=FILE --output=FILE",
            "use elsewhere": f"export --workdir={workdir} --format=stablehlo --output=PATH",
        }
    )


def text_statistics(results: dict[str, Any]) -> str:
    """Returns a line with the share of padding tokens and the number of truncated texts."""
    padding = ", ".join(f"{stage['name']} {stage['padding']:.1%}" for stage in results["stages"])
    truncated = ", ".join(f"{split} {count:,}" for split, count in results["truncated"].items())
    return f"Padding tokens: {padding}. Truncated texts: {truncated}."


def scores_table(results: dict[str, Any]) -> str:
    """Returns the scores of results.json as a table."""
    rows = [
        # Only the student has a score of the last step.
        (name, *(percent(network.get(field)) for field in ("validation", "test", "test_last")))
        for name, network in network_scores(results).items()
    ]
    return markdown_table(("", "validation", "test", "test at last step"), rows)


def dry_run_report(cost: dict[str, Any]) -> str:
    """Returns the results of a dry run as tables and plots of the schedules."""
    networks = []
    for name, network in cost["networks"].items():
        scores = [f"{k} {v:.1%}" for k, v in network.items() if k != "parameters"]
        if not scores and name != STUDENT:
            scores = ["not trained yet"]
        parameters = network["parameters"]
        networks.append((name, f"{parameters:,}", f"{4e-6 * parameters:,.1f}", ", ".join(scores)))
    stages = [
        (
            stage["name"],
            f"{stage['updates']:,}",
            f"{stage['first_step_seconds']:.1f}",
            f"{stage['steps_per_second']:.2f}",
            f"{stage['updates'] / stage['steps_per_second'] / 60:,.1f}",
            f"{stage['bytes'] / 1e6:,.1f}",
            f"{stage['loss']:.4f}",
        )
        for stage in cost["stages"]
    ]
    headers = ("", "updates", "compile (s)", "steps/s", "minutes", "MB/device", "loss")
    schedules = [_draw_schedules(stage) for stage in cost["stages"]]
    return "\n\n".join(
        [
            markdown_table(("", "parameters", "MB", "score on first validation batches"), networks),
            markdown_table(headers, stages),
            *schedules,
            f"Stored teacher outputs: {cost['cache'] / 1e6:,.1f} MB.",
            "Nothing was written. The minutes do not include evaluations.",
        ]
    )


def _draw_schedules(stage: dict[str, Any]) -> str:
    """Returns a bar chart of each schedule of a stage, and of its learning rate."""
    schedules = {**stage["schedules"], "learning_rate": stage["learning_rate"]}
    width = max(map(len, schedules))
    lines = [f"  {name.replace('_', ' '):<{width}} {_draw(x)}" for name, x in schedules.items()]
    return "\n".join([f"Schedules of {stage['name']}, {stage['epochs']} epochs:", *lines])


def _draw(values: Sequence[float]) -> str:
    """Returns a bar chart of at most _WIDTH characters, and the first and last value."""
    width = min(_WIDTH, len(values))
    sampled = [values[i * len(values) // width] for i in range(width)]
    low = min(0.0, *values)
    height = max(values) - low or 1.0  # All values are 0.
    bars = "".join(_BARS[max(1, round(8 * (value - low) / height))] for value in sampled)
    return f"{bars}  {values[0]:.3g} to {values[-1]:.3g}"


if __name__ == "__main__":
    cli.launch(main, required=["config", "workdir"], several_processes=True)
