"""HTML report of a run, a comparison or a search: a single file, readable offline."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from akd_jax import data
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.runs import config as config_schema
from akd_jax.runs import read_test_predictions
from akd_jax.training.texts import Texts
from experiments import score_matrix, search_report
from experiments.curves import EpochRecords, draw_curves
from experiments.report_figures import draw_lengths, draw_predictions
from experiments.report_parts import Part, Section, note, picture, render, table
from experiments.searched import SEARCH
from experiments.tables import network_scores, percent

COMPARISON = "comparison.json"
REPORT = "report.html"
_MOST_CURVES = 10  # More curves in a panel cannot be told apart.


def read_metrics(run_folder: Path) -> EpochRecords:
    """Returns the records of a run's metrics.jsonl, in the order of the epochs."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write(workdir: Path) -> Path:
    """Writes report.html of what is finished in `workdir`; returns its path.

    Raises:
      InputError: the folder holds no finished run, comparison or search.
    """
    names = (COMPARISON, SEARCH, records.RESULTS)
    comparison, search, results = (records.read(workdir / name) for name in names)
    if comparison is not None:
        title, sections = comparison["title"], _comparison_sections(workdir, comparison)
    elif search is not None:
        title, sections = search_report.title(search), search_report.sections(search)
        trial = next(iter(search["methods"].values()))["best"]
        sections.append(_environment(workdir / trial["runs"] / f"seed_{search['seeds'][0]}"))
    elif results is None:
        raise InputError(
            f"{workdir}: expected a finished run, comparison or search, got none; run"
            " experiments.train, experiments.compare or experiments.search on it first"
        )
    elif "method" not in results:
        raise InputError(f"{workdir}: expected a run, comparison or search, got a teacher")
    else:
        title = f"{results['method']} on {results['dataset']}, seed {results['seed']}"
        sections = _run_sections(workdir, results)
    path = workdir / REPORT
    path.write_text(render(title, sections), encoding="utf-8")
    return path


def _run_sections(workdir: Path, results: dict[str, Any]) -> list[Section]:
    """Returns the sections of a run."""
    folders = {results["method"]: workdir}
    tasks = _tasks(folders, "")
    if tasks:
        tasks.append(table(("", "percent"), _stream_scores(results)))
    seconds = {f"stage {stage['name']}": stage["seconds"] for stage in results["stages"]}
    for name, entry in results.get("teacher_cache", {}).items():
        seconds[f"stored outputs of {name}"] = entry["seconds"]
    return [
        Section("", _run_scores(results)),
        Section("Tasks", tasks),
        Section("Training", _curves(workdir, 1)),
        Section("Predictions", _predictions(folders, "")),
        Section("Time", [_times(seconds)]),
        _environment(workdir),
    ]


def _comparison_sections(workdir: Path, comparison: dict[str, Any]) -> list[Section]:
    """Returns the sections of a comparison."""
    entries, first = comparison["methods"], " They are those of the first seed."
    folders = {name: workdir / entry["runs"][0] for name, entry in entries.items()}
    scores = [table(comparison["headers"], comparison["rows"]), *map(note, comparison["notes"])]
    seconds = {f"({name})": x["seconds"] for name, x in comparison["teachers"].items()}
    seconds |= {f"{name}, a student": entry["seconds"] for name, entry in entries.items()}
    return [
        Section("", scores),
        Section("Tasks", _tasks(folders, first)),
        Section("Training", _curves(workdir, len(entries))),
        Section("Predictions", _predictions(folders, first)),
        Section("Time", [_times(seconds)]),
        _environment(next(iter(folders.values()))),
    ]


def _tasks(folders: Mapping[str, Path], addition: str) -> list[Part]:
    """Returns the scores of streams of tasks, of a run of each row; [] for a single task."""
    runs = {name: records.read(x / records.RESULTS) for name, x in folders.items()}
    streams = {name: score_matrix.read(run or {"stages": []}) for name, run in runs.items()}
    streams = {name: stream for name, stream in streams.items() if len(stream) > 1}
    if not streams:
        return []
    text = "Heat maps: the score in percent on each task so far, after each task was learned."
    return [picture(score_matrix.draw(streams)), note(text + addition)]


def _stream_scores(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the names and values of the scores of a stream."""
    scores = {"mean at the end": results["student"]["test"], **score_matrix.scores(results)}
    return [(name, percent(score)) for name, score in scores.items() if score is not None]


def _curves(workdir: Path, rows: int) -> list[Part]:
    """Returns the curves over the epochs, of one or several rows."""
    runs, metric = read_runs(workdir)
    parts = [picture(draw_curves(runs, metric))]
    if len(runs) < rows:
        parts.append(
            note(
                f"The curves show {len(runs)} of {rows} methods: the references and those with the"
                " best validation scores."
            )
        )
    if any(len(seeds) > 1 for seeds in runs.values()):
        parts.append(
            note(
                "Lines show the mean over the seeds, and bands the range from the smallest to the"
                " largest value."
            )
        )
    return parts


def _predictions(folders: Mapping[str, Path], addition: str) -> list[Part]:
    """Returns how the predictions of a run of each row compare with the test split.

    For classes, these are the calibration and the accuracy of each class; for texts, BLEU by the
    length of the source. Other tasks have none.
    """
    drawn = dict(list(folders.items())[:_MOST_CURVES])
    predicted = {name: read_test_predictions(folder) for name, folder in drawn.items()}
    logits = {name: x for name, x in predicted.items() if isinstance(x, np.ndarray)}
    texts = {name: x.texts for name, x in predicted.items() if isinstance(x, Texts)}
    if not logits and not texts:
        return []
    record = records.read_config(next(iter(folders.values())))
    assert record is not None, "expected the configuration of a run"
    dataset = data.load(config_schema.parse(record["config"]).dataset)
    split = dataset.splits["test"]
    if texts and "bleu" in dataset.task.metrics:
        sources, references = split.inputs[:, 0].tolist(), split.inputs[:, -1].tolist()
        text = "BLEU of the sources with so many words." + addition
        return [picture(draw_lengths(texts, references, sources)), note(text)]
    if texts or dataset.task.regression:
        return []
    text = "On the diagonal, a student is right as often as its confidence says." + addition
    return [picture(draw_predictions(logits, split.labels, dataset.task.labels)), note(text)]


def _times(seconds: Mapping[str, float]) -> Part:
    """Returns where the time went."""
    return table(("", "seconds"), [(name, f"{x:.1f}") for name, x in seconds.items()])


def _environment(folder: Path) -> Section:
    """Returns the versions, the devices and the data set of a run."""
    record = records.read_config(folder)
    if record is None:
        return Section("What ran", [])
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
    return Section("What ran", [table(("", ""), rows)])


def has_curves(workdir: Path) -> bool:
    """Returns whether a folder holds a run or a comparison, for `read_runs`."""
    return any((workdir / name).exists() for name in (COMPARISON, records.RESULTS))


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
    """Returns the scores and the sizes of the networks, and the stages of a run."""
    rows = [
        (
            name,
            *(percent(network[score]) for score in ("validation", "test")),
            f"{network['parameters']:,}" if "parameters" in network else "",
        )
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
        table(("", "validation", "test", "parameters"), rows),
        note(
            f"Metric: {results.get('metric', 'accuracy')}. The student is the checkpoint of the"
            f" last stage that was selected by: {results['select_on']}. experiments.evaluate"
            " measures what the networks cost."
        ),
        table(headers, stages),
    ]
    if padded:
        counts = ", ".join(f"{split} {count:,}" for split, count in results["truncated"].items())
        parts.append(note(f"Truncated texts: {counts}."))
    return parts
