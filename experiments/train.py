"""Trains one student, and its teacher where the method reads one.

python -m experiments.train --config=configs/digits.py:annealing_kd --workdir=DIR

Run again with the same flags it goes on from its last checkpoint. With --dry_run it builds and
compiles all of the run, takes two steps of each stage, says what they cost, and leaves nothing.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from akd_jax import processes, records
from akd_jax.dry_run import rehearse
from akd_jax.plan import STUDENT
from akd_jax.runs import run
from experiments import cli, html_report

_CONFIG = cli.config_flag()
_WORKDIR = cli.workdir_flag()
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Rehearse the run, and leave nothing.")

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60  # Characters of a drawn schedule.


def main() -> None:
    """Runs what the flags say and prints the scores."""
    if _DRY_RUN.value:
        cli.print_on_primary(rehearsal(rehearse(_CONFIG.value)))
        return
    workdir = cli.path(_WORKDIR)
    finished = processes.on_primary(lambda: records.read(workdir / records.RESULTS) is not None)
    results = run(_CONFIG.value, workdir)
    if finished:
        cli.print_on_primary(f"{workdir} holds this run already, finished; nothing was trained.")
    cli.print_on_primary(scores(results))
    if "truncated" in results:
        cli.print_on_primary(texts(results))
    cli.print_on_primary(f"Report: {processes.on_primary(lambda: str(html_report.write(workdir)))}")


def texts(results: dict[str, Any]) -> str:
    """What the batches of texts held beside them."""
    padding = ", ".join(f"{stage['name']} {stage['padding']:.1%}" for stage in results["stages"])
    cut = ", ".join(f"{split} {count:,}" for split, count in results["truncated"].items())
    return f"Padding among the tokens: {padding}. Texts that were cut: {cut}."


def scores(results: dict[str, Any]) -> str:
    """The scores of results.json as a table."""
    rows = []
    for name in ("teacher", "student"):
        found = results[name]
        if found:
            last = f"{found['test_last']:.2%}" if "test_last" in found else "-"
            rows.append((name, f"{found['validation']:.2%}", f"{found['test']:.2%}", last))
    return cli.markdown_table(("", "validation", "test", "test, last step"), rows)


def rehearsal(found: dict[str, Any]) -> str:
    """What a dry run found, as tables and drawn schedules."""
    networks = []
    for name, network in found["networks"].items():
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
        for stage in found["stages"]
    ]
    headers = ("", "updates", "compile s", "steps/s", "minutes", "MB/device", "loss")
    drawn = [
        f"{stage['name']}, {stage['epochs']} epochs\n"
        f"  Phi           {_draw(stage['phi'])}\n"
        f"  learning rate {_draw(stage['learning_rate'])}"
        for stage in found["stages"]
    ]
    return "\n\n".join(
        [
            cli.markdown_table(("", "parameters", "MB", "first validation batches"), networks),
            cli.markdown_table(headers, stages),
            *drawn,
            f"Stored logits of the teachers: {found['cache'] / 1e6:,.1f} MB.",
            "Nothing was written. The minutes are of training alone, without evaluations.",
        ]
    )


def _draw(values: Sequence[float]) -> str:
    """A line of bars, at most _WIDTH of them, and the first and last value."""
    width = min(_WIDTH, len(values))
    shown = [values[i * len(values) // width] for i in range(width)]
    bars = "".join(_BARS[max(1, round(8 * value / max(values)))] for value in shown)
    return f"{bars}  {values[0]:.3g} to {values[-1]:.3g}"


if __name__ == "__main__":
    cli.launch(main, required=["config", "workdir"], several_processes=True)
