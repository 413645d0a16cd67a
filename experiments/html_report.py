"""Reports: one HTML file that opens offline, with the tables and the curves."""

import html
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from akd_jax import records
from akd_jax.errors import InputError

COMPARISON = "comparison.json"
REPORT = "report.html"

Records = list[dict[str, Any]]  # Of one run's metrics.jsonl.

_SCORE = "validation_score"  # Stands for the field of the task's metric.
_PANELS = (  # Field of the records, title, whether its axis is logarithmic.
    ("train_loss", "Training loss, each stage's own", True),
    (_SCORE, "Validation {metric}", False),
    ("phi", "Annealing factor Φ", False),
    ("learning_rate", "Learning rate", True),
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto;
         padding: 0 1rem; color: #222; }}
  table {{ border-collapse: collapse; margin: 1rem 0; font-size: .9rem;
          font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }}
  th, td {{ padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd;
            white-space: nowrap; }}
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


def curves(runs: Mapping[str, Sequence[Records]], metric: str) -> Figure:
    """Draws loss, validation score, Phi and learning rate over epochs.

    Args:
      runs: name to the records of its runs, one for each seed. Their mean is drawn; where
        there are several, with a band from the smallest to the largest. A dotted line marks
        the beginning of another stage.
      metric: the task's, whose score is drawn.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (field, title, logarithmic) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        means = []
        for number, (name, seeds) in enumerate(runs.items()):
            read = f"validation_{metric}" if field == _SCORE else field
            values = np.array([[record[read] for record in records] for records in seeds])
            if field == "phi":
                values = values[:, : _annealed_epochs(seeds[0])]
            if not values.size:
                continue
            colour, style = f"C{number}", ("-", "--", "-.", ":")[number % 4]
            epochs = np.arange(1, values.shape[1] + 1)
            means.append(values.mean(axis=0))
            drawn = "steps-mid" if field in ("phi", "learning_rate") else "default"
            axes.plot(epochs, means[-1], style, color=colour, label=name, drawstyle=drawn)
            if len(seeds) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
            for end in _stage_ends(seeds[0]):
                axes.axvline(end + 0.5, color=colour, linestyle=":", linewidth=1)
        if logarithmic:
            axes.set_yscale("log")
        if field == _SCORE:
            # The first epochs, near chance, would press the differences into a thin line.
            axes.set_ylim(bottom=np.quantile(np.concatenate(means), 0.1))
            axes.legend(loc="best", frameon=False, fontsize=9)
        elif means:
            axes.legend(frameon=False, fontsize=9)
        axes.set_title(title.format(metric=metric), fontsize=11)
        axes.set_xlabel("epoch")
        axes.set_xlim(0, max(len(seeds[0]) for seeds in runs.values()) + 1)
        axes.grid(alpha=0.25)
    return figure


def write(workdir: Path) -> Path:
    """Writes report.html for the finished run or comparison in a folder; returns its path.

    Raises:
      InputError: the folder holds neither.
    """
    comparison = records.read(workdir / COMPARISON)
    results = records.read(workdir / records.RESULTS)
    if results is not None and "method" not in results:
        raise InputError(f"{workdir}: expected a run or comparison, got the folder of a teacher")
    if comparison is not None:
        title, body = comparison["title"], _comparison_body(comparison)
    elif results is not None:
        title = f"{results['method']} on {results['dataset']}, seed {results['seed']}"
        body = _run_body(results)
    else:
        raise InputError(
            f"{workdir}: expected a finished run or comparison, got neither; run"
            " experiments.train or experiments.compare on it first"
        )
    runs, metric = read_runs(workdir)
    body += _svg(curves(runs, metric))
    if any(len(seeds) > 1 for seeds in runs.values()):
        body += _note("Lines: mean over the seeds; bands: from the smallest to the largest.")
    path = workdir / REPORT
    path.write_text(_PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    return path


def read_runs(workdir: Path) -> tuple[dict[str, list[Records]], str]:
    """Records of each method's runs in the folder of a finished run or comparison, and the
    task's metric.
    """
    comparison = records.read(workdir / COMPARISON)
    if comparison is None:
        results = records.read(workdir / records.RESULTS) or {}
        return {results["method"]: [read_metrics(workdir)]}, results.get("metric", "accuracy")
    runs = {
        method: [read_metrics(workdir / folder) for folder in entry["runs"]]
        for method, entry in comparison["methods"].items()
    }
    return runs, comparison.get("metric", "accuracy")


def _run_body(results: dict[str, Any]) -> str:
    rows = [
        (name, *(f"{results[name][score]:.2%}" for score in ("validation", "test")))
        for name in ("teacher", "student")
        if results[name]
    ]
    padded = any("padding" in stage for stage in results["stages"])
    stages = [
        (
            stage["name"],
            str(stage["epochs"]),
            str(stage["steps"]),
            f"{stage['best_validation']:.2%}",
            str(stage["best_epoch"]),
            f"{stage['seconds']:.1f}",
            f"{stage['examples_per_second']:,.0f}",
            *([f"{stage['padding']:.1%}"] if padded else []),
        )
        for stage in results["stages"]
    ]
    headers = ["stage", "epochs", "updates", "best validation", "at epoch", "seconds", "examples/s"]
    headers += ["padding"] if padded else []
    return (
        _table(("", "validation", "test"), rows)
        + _note(
            f"{results.get('metric', 'accuracy')}; student: chosen on validation in its last stage."
        )
        + _table(headers, stages)
        + (_note(f"Texts that were cut, by split: {results['truncated']}.") if padded else "")
    )


def _comparison_body(comparison: dict[str, Any]) -> str:
    table = _table(comparison["headers"], comparison["rows"])
    return table + "".join(map(_note, comparison["notes"]))


def _annealed_epochs(records: Records) -> int:
    """Epochs until the last one of the stages whose Phi changes."""
    annealed = {record["stage"] for record in records if record["phi"] < 1}
    return sum(record["stage"] in annealed for record in records)


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
