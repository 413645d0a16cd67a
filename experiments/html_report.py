"""HTML report of a run or comparison: a single file with tables and curves, readable offline."""

import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from akd_jax.host import records
from akd_jax.host.errors import InputError
from experiments import score_matrix
from experiments.curves import EpochRecords, draw_curves
from experiments.tables import network_scores, percent

COMPARISON = "comparison.json"
REPORT = "report.html"
_MOST_CURVES = 10  # More curves in a panel cannot be told apart.

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


def read_metrics(run_folder: Path) -> EpochRecords:
    """Returns the records of a run's metrics.jsonl, in the order of the epochs."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write(workdir: Path) -> Path:
    """Writes report.html of the finished run or comparison in `workdir`; returns its path.

    Raises:
      InputError: the folder holds no finished run or comparison.
    """
    comparison = records.read(workdir / COMPARISON)
    results = records.read(workdir / records.RESULTS)
    if results is not None and "method" not in results:
        raise InputError(f"{workdir}: expected a run or comparison, got a teacher")
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
    streams = _streams(workdir, comparison, results)
    if streams:
        body += _svg(score_matrix.draw(streams))
        body += _note(
            "Heat maps: the score in percent on each task so far, after each task was learned."
            + (" They are those of the first seed." if comparison else "")
        )
        if results is not None:
            body += _table(("", "percent"), _stream_scores(results))
    runs, metric = read_runs(workdir)
    body += _svg(draw_curves(runs, metric))
    if comparison is not None and len(runs) < len(comparison["methods"]):
        body += _note(
            f"The curves show {len(runs)} of {len(comparison['methods'])} methods: the references"
            " and those with the best validation scores."
        )
    if any(len(seeds) > 1 for seeds in runs.values()):
        body += _note(
            "Lines show the mean over the seeds, and bands the range from the smallest to the"
            " largest value."
        )
    path = workdir / REPORT
    path.write_text(_PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    return path


def _streams(
    workdir: Path, comparison: Mapping[str, Any] | None, results: Mapping[str, Any] | None
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the scores of streams of tasks, of a run or of each row's first run; {} for none."""
    runs = {} if results is None else {results["method"]: results}
    if comparison is not None:
        folders = {name: entry["runs"][0] for name, entry in comparison["methods"].items()}
        runs = {
            name: records.read(workdir / folder / records.RESULTS) or {"stages": []}
            for name, folder in folders.items()
        }
    streams = {name: score_matrix.read(run) for name, run in runs.items()}
    return {name: stream for name, stream in streams.items() if len(stream) > 1}


def _stream_scores(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the names and values of the scores of a stream."""
    scores = {"mean at the end": results["student"]["test"], **score_matrix.scores(results)}
    return [(name, percent(score)) for name, score in scores.items() if score is not None]


def read_runs(workdir: Path) -> tuple[dict[str, list[EpochRecords]], str]:
    """Returns the records of each method's runs, and the name of the task's metric.

    Of more than ten methods, these are the references and those with the best validation scores.

    Args:
      workdir: folder of a finished run or comparison.
    """
    comparison = records.read(workdir / COMPARISON)
    if comparison is None:
        results = records.read(workdir / records.RESULTS) or {}
        return {results["method"]: [read_metrics(workdir)]}, results.get("metric", "accuracy")
    entries, references = comparison["methods"], comparison.get("references", ())

    def rank(name: str) -> tuple[bool, float]:
        score = entries[name]["validation"]["mean"]  # None if a score was not finite.
        return name not in references, math.inf if score is None else -score

    drawn = sorted(entries, key=rank)[:_MOST_CURVES]
    runs = {
        method: [read_metrics(workdir / folder) for folder in entry["runs"]]
        for method, entry in entries.items()
        if method in drawn
    }
    return runs, comparison.get("metric", "accuracy")


def _run_body(results: dict[str, Any]) -> str:
    rows = [
        (name, *(percent(network[score]) for score in ("validation", "test")))
        for name, network in network_scores(results).items()
    ]
    padded = any("padding" in stage for stage in results["stages"])
    stages = [
        (
            stage["name"],
            str(stage["epochs"]),
            str(stage["steps"]),
            percent(stage["best_validation"]),
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
            f"Metric: {results.get('metric', 'accuracy')}. The student is the checkpoint of the"
            f" last stage that was selected by: {results['select_on']}."
        )
        + _table(headers, stages)
        + (_note(f"Truncated texts: {_counts(results['truncated'])}.") if padded else "")
    )


def _comparison_body(comparison: dict[str, Any]) -> str:
    table = _table(comparison["headers"], comparison["rows"])
    return table + "".join(map(_note, comparison["notes"]))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # HTML does not allow the XML declaration before it.


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values) + "</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f"<table><thead>{cells('th', headers)}</thead><tbody>{body}</tbody></table>\n"


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>\n'
