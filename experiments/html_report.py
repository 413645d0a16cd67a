"""HTML report of a run or comparison: a single file with tables and curves, readable offline."""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from akd_jax import data
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.runs import config as config_schema
from akd_jax.runs import read_test_predictions
from experiments import score_matrix
from experiments.curves import EpochRecords, draw_curves
from experiments.report_figures import draw_predictions
from experiments.tables import network_scores, percent

COMPARISON = "comparison.json"
REPORT = "report.html"
_MOST_CURVES = 10  # More curves in a panel cannot be told apart.

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
)

Part = dict[str, Any]  # A table with headers and rows, a picture in SVG, or a text.


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report with a heading of its own.

    Attributes:
      heading: the heading; empty for none.
      parts: tables, pictures and texts, in their order.
    """

    heading: str
    parts: list[Part]


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
        title, scores = comparison["title"], _comparison_scores(comparison)
    elif results is not None:
        title = f"{results['method']} on {results['dataset']}, seed {results['seed']}"
        scores = _run_scores(results)
    else:
        raise InputError(
            f"{workdir}: expected a finished run or comparison, got neither; run"
            " experiments.train or experiments.compare on it first"
        )
    sections = [
        Section("", scores),
        Section("Tasks", _tasks(workdir, comparison, results)),
        Section("Training", _curves(workdir, comparison)),
        Section("Predictions", _predictions(workdir, comparison, results)),
        Section("Time", _times(comparison, results)),
        Section("What ran", _environment(workdir, comparison)),
    ]
    page = _TEMPLATES.get_template(REPORT).render(
        title=title, sections=[section for section in sections if section.parts]
    )
    path = workdir / REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _tasks(
    workdir: Path, comparison: Mapping[str, Any] | None, results: Mapping[str, Any] | None
) -> list[Part]:
    """Returns the scores of a stream of tasks; [] for a single task."""
    streams = _streams(workdir, comparison, results)
    if not streams:
        return []
    note = "Heat maps: the score in percent on each task so far, after each task was learned."
    parts = [
        _svg(score_matrix.draw(streams)),
        _note(note + (" They are those of the first seed." if comparison else "")),
    ]
    if results is not None:
        parts.append(_table(("", "percent"), _stream_scores(results)))
    return parts


def _curves(workdir: Path, comparison: Mapping[str, Any] | None) -> list[Part]:
    """Returns the curves over the epochs."""
    runs, metric = read_runs(workdir)
    parts = [_svg(draw_curves(runs, metric))]
    if comparison is not None and len(runs) < len(comparison["methods"]):
        parts.append(
            _note(
                f"The curves show {len(runs)} of {len(comparison['methods'])} methods: the"
                " references and those with the best validation scores."
            )
        )
    if any(len(seeds) > 1 for seeds in runs.values()):
        parts.append(
            _note(
                "Lines show the mean over the seeds, and bands the range from the smallest to the"
                " largest value."
            )
        )
    return parts


def _predictions(
    workdir: Path, comparison: Mapping[str, Any] | None, results: Mapping[str, Any] | None
) -> list[Part]:
    """Returns how sure the students are and how often they are right; [] without classes."""
    folders = {} if results is None else {results["method"]: workdir}
    if comparison is not None:
        names = list(comparison["methods"])[:_MOST_CURVES]
        folders = {name: workdir / comparison["methods"][name]["runs"][0] for name in names}
    logits = {name: read_test_predictions(folder) for name, folder in folders.items()}
    known = {name: x for name, x in logits.items() if isinstance(x, np.ndarray)}
    if not known:
        return []
    record = records.read_config(next(iter(folders.values())))
    assert record is not None, "expected the configuration of a run"
    dataset = data.load(config_schema.parse(record["config"]).dataset)
    if dataset.task.regression:
        return []
    labels = dataset.splits["test"].labels
    figure = draw_predictions(known, labels, dataset.task.labels)
    note = "On the diagonal, a student is right as often as it says."
    return [_svg(figure), _note(note + (" First seed of each method." if comparison else ""))]


def _times(comparison: Mapping[str, Any] | None, results: Mapping[str, Any] | None) -> list[Part]:
    """Returns where the time went, in seconds."""
    if comparison is not None:
        rows = [(f"({name})", f"{x['seconds']:.1f}") for name, x in comparison["teachers"].items()]
        rows += [
            (f"{name}, a student", f"{entry['seconds']:.1f}")
            for name, entry in comparison["methods"].items()
        ]
    else:
        assert results is not None, "expected a run"
        rows = [(f"stage {x['name']}", f"{x['seconds']:.1f}") for x in results["stages"]]
        for name, entry in results.get("teacher_cache", {}).items():
            rows.append((f"stored outputs of {name}", f"{entry['seconds']:.1f}"))
    return [_table(("", "seconds"), rows)]


def _environment(workdir: Path, comparison: Mapping[str, Any] | None) -> list[Part]:
    """Returns the versions, the devices and the data set of a run, or of the first of many."""
    folder = workdir
    if comparison is not None:
        folder = workdir / next(iter(comparison["methods"].values()))["runs"][0]
    record = records.read_config(folder)
    if record is None:
        return []
    environment, settings = record["environment"], record["config"]
    devices = environment["devices"]
    packages = {name: x for name, x in environment["packages"].items() if x}
    rows = [
        ("data set", settings["dataset"]["name"]),
        ("student", settings["student"]["model"]),
        ("batch size", str(settings["batch_size"])),
        ("devices", f"{devices['count']} x {devices['kind']}, {devices['processes']} processes"),
        ("Python", environment["python"]),
        *packages.items(),
        ("git revision", environment.get("git_revision") or "unknown"),
    ]
    return [_table(("", ""), rows)]


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


def _run_scores(results: dict[str, Any]) -> list[Part]:
    """Returns the scores of the networks and the stages of a run."""
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
    parts = [
        _table(("", "validation", "test"), rows),
        _note(
            f"Metric: {results.get('metric', 'accuracy')}. The student is the checkpoint of the"
            f" last stage that was selected by: {results['select_on']}."
        ),
        _table(headers, stages),
    ]
    if padded:
        parts.append(_note(f"Truncated texts: {_counts(results['truncated'])}."))
    return parts


def _comparison_scores(comparison: dict[str, Any]) -> list[Part]:
    """Returns the table of a comparison, and what its columns mean."""
    return [
        _table(comparison["headers"], comparison["rows"]),
        *map(_note, comparison["notes"]),
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def _svg(figure: Figure) -> Part:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return {"svg": text[text.index("<svg") :]}  # HTML does not allow the XML declaration before it.


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Part:
    return {"headers": headers, "rows": rows}


def _note(text: str) -> Part:
    return {"text": text}
