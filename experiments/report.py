"""Reports: one HTML file that opens offline, with the table and the curves.

python -m experiments.report --workdir=DIR [--png=FILE]

writes DIR/report.html anew for a run or a comparison; --png also writes the curves.
"""

import html
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from akd_jax import records
from akd_jax.errors import InputError
from experiments import cli

COMPARISON = "comparison.json"
REPORT = "report.html"

Records = list[dict[str, Any]]  # Of one run's metrics.jsonl.

_PANELS = (  # Field of the records, title, whether its axis is logarithmic.
    ("train_loss", "Training loss (each stage's own)", True),
    ("validation_accuracy", "Validation accuracy", False),
    ("phi", "Annealing factor Φ", False),
    ("learning_rate", "Learning rate", True),
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
         padding: 0 1rem; color: #222; }}
  table {{ border-collapse: collapse; margin: 1rem 0; }}
  th, td {{ padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #ddd; }}
  th:first-child, td:first-child {{ text-align: left; }}
  thead th {{ border-bottom: 2px solid #222; }}
  svg {{ width: 100%; height: auto; }}
  .note {{ color: #555; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def read_metrics(run_folder: Path) -> Records:
    """The records of a run's metrics.jsonl, in the order they were written."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def curves(runs: Mapping[str, Sequence[Records]]) -> Figure:
    """Draws loss, accuracy, Phi and learning rate over epochs.

    Args:
      runs: name to the records of its runs, one for each seed; their mean is drawn, with a
        band of one standard deviation where there are several.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (field, title, logarithmic) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for number, (name, seeds) in enumerate(runs.items()):
            values = np.array([[record[field] for record in records] for records in seeds])
            if field == "phi" and values.min() == 1:
                continue  # No annealing: the factor is not used.
            colour = f"C{number}"
            epochs = np.arange(1, values.shape[1] + 1)
            mean, deviation = values.mean(axis=0), values.std(axis=0)
            axes.plot(epochs, mean, color=colour, label=name, linewidth=1.6)
            if len(seeds) > 1 and field != "phi":
                low, high = mean - deviation, mean + deviation
                if logarithmic:  # A band around a mean near 0 would reach below the axis.
                    low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
            for end in _stage_ends(seeds[0]):
                axes.axvline(end + 0.5, color=colour, linestyle=":", linewidth=1)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    return figure


def write_run(workdir: Path) -> Path:
    """Writes the report of one finished run, and returns its path."""
    results = _finished(workdir / records.RESULTS)
    rows = [
        (name, *(f"{results[name][score]:.2%}" for score in ("validation", "test")))
        for name in ("teacher", "student")
        if results[name]
    ]
    stages = [
        (
            stage["name"],
            str(stage["epochs"]),
            str(stage["steps"]),
            f"{stage['best_validation']:.2%}",
            str(stage["best_epoch"]),
            f"{stage['seconds']:.1f}",
            f"{stage['examples_per_second']:,.0f}",
        )
        for stage in results["stages"]
    ]
    headers = ("stage", "epochs", "updates", "best validation", "at epoch", "seconds", "examples/s")
    body = (
        _table(("", "validation", "test"), rows)
        + _note("Student: chosen on validation in its last stage.")
        + _table(headers, stages)
    )
    title = f"{results['method']} on {results['dataset']}, seed {results['seed']}"
    return _write(workdir, title, body, {results["method"]: [read_metrics(workdir)]})


def write_comparison(workdir: Path) -> Path:
    """Writes the report of a comparison, and returns its path."""
    comparison = _finished(workdir / COMPARISON)
    body = _table(comparison["headers"], comparison["rows"]) + "".join(
        map(_note, comparison["notes"])
    )
    return _write(workdir, comparison["title"], body, _comparison_runs(workdir, comparison))


def _comparison_runs(workdir: Path, comparison: dict[str, Any]) -> dict[str, list[Records]]:
    return {
        method: [read_metrics(workdir / folder) for folder in entry["runs"]]
        for method, entry in comparison["methods"].items()
    }


def _write(workdir: Path, title: str, body: str, runs: Mapping[str, Sequence[Records]]) -> Path:
    page = _PAGE.format(title=html.escape(title), body=body + _svg(curves(runs)))
    path = workdir / REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _stage_ends(records: Records) -> list[int]:
    """Epochs, counted over the run, after which another stage begins."""
    pairs = enumerate(itertools.pairwise(records), start=1)
    return [epoch for epoch, (a, b) in pairs if a["stage"] != b["stage"]]


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # Without the XML declaration, which HTML has no place for.


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values) + "</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f"<table><thead>{cells('th', headers)}</thead><tbody>{body}</tbody></table>\n"


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>\n'


def _finished(path: Path) -> dict[str, Any]:
    found = records.read(path)
    if found is None:
        raise InputError(f"{path}: expected a finished run or comparison, got no such file")
    return found


_PNG = flags.DEFINE_string("png", None, "Where to write the curves as a picture.")


def main() -> None:
    """Writes the report of the run or comparison in --workdir."""
    workdir = Path(flags.FLAGS.workdir)
    comparison = records.read(workdir / COMPARISON)
    path = write_run(workdir) if comparison is None else write_comparison(workdir)
    print(f"Report: {path}")
    if _PNG.value:
        if comparison is None:
            results = _finished(workdir / records.RESULTS)
            runs = {results["method"]: [read_metrics(workdir)]}
        else:
            runs = _comparison_runs(workdir, comparison)
        curves(runs).savefig(_PNG.value, dpi=110)


if __name__ == "__main__":
    cli.define_workdir("Folder of a finished run or comparison.")
    cli.launch(main, required=["workdir"])
