"""Curves of runs: losses, scores and schedules over the epochs."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

EpochRecords = list[dict[str, Any]]  # The lines of one run's metrics.jsonl, one per epoch.

_AGREEMENT = "train_agreement"
# Titles of schedules that have a symbol in the papers; others are named as in the records.
_TITLES = {
    "temperature": "Temperature T",
    "phi": "Annealing factor Φ",
    "psi": "Weight of the labels ψ",
    "learning_rate": "Learning rate",
    "train_loss": "Training loss of each stage",
    _AGREEMENT: "Agreement with the teacher in training",
}
_NOT_SCHEDULES = ("stage", "epoch", "step", "learning_rate", "examples_per_second")


def draw_curves(runs: Mapping[str, Sequence[EpochRecords]], metric: str) -> Figure:
    """Plots the loss, the validation scores, the schedules and the learning rate over the epochs.

    The panels are those of `panels`. The lines are means over the seeds. With several seeds, a band
    shows the range from the smallest to the largest value. A line has a gap in the stages that do
    not record its values. A dotted vertical line marks the end of a stage.

    Args:
      runs: for each name, the records of its runs, one run per seed.
      metric: name of the task's metric.
    """
    fields = panels([record for seeds in runs.values() for record in seeds[0]], metric)
    rows = -(-len(fields) // 2)
    figure = Figure(figsize=(11, 3.5 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False).flat
    for axes, (field, title) in zip(grid, fields.items(), strict=False):
        _draw_panel(axes, runs, field, metric)
        axes.set_title(title, fontsize=11)
    for axes in grid[len(fields) :]:
        axes.set_axis_off()
    return figure


def panels(records: EpochRecords, metric: str) -> dict[str, str]:
    """Returns the fields of records that `draw_curves` plots, with their titles.

    They are the training loss; the validation scores, the task's metric first; the agreement of
    student and teacher; the schedules; the terms of composed losses and their weights; and the
    learning rate. Of the schedules, terms and weights, those that have a single value are left out,
    and so is a term that is the whole loss.
    A term whose weight is always 0 is a record of something else, such as a rate.

    Args:
      records: the records of all runs.
      metric: name of the task's metric.
    """
    fields = list(dict.fromkeys(field for record in records for field in record))
    scores = [field for field in fields if field.startswith("validation_")]
    scores.sort(key=lambda field: field != f"validation_{metric}")  # A stable sort.
    titles = {score: _readable(score) for score in scores}
    if _AGREEMENT in fields:
        titles[_AGREEMENT] = _TITLES[_AGREEMENT]
    parts: dict[str, str] = {}
    for field in fields:
        if not field.startswith(("train_", "validation_")) and field not in _NOT_SCHEDULES:
            parts[field] = _TITLES.get(field, _readable(field))
    for field in fields:
        if f"{field}_scale" in fields:
            term = field.removeprefix("train_").replace("_", " ")
            recorded = _is_recorded(records, field)
            parts[field] = _readable(term) if recorded else f"Loss term: {term}"
            parts[f"{field}_scale"] = f"Weight of the loss term: {term}"
    varying = {field: title for field, title in parts.items() if _is_shown(records, field)}
    return {
        "train_loss": _TITLES["train_loss"],
        **titles,
        **varying,
        "learning_rate": _TITLES["learning_rate"],
    }


def _draw_panel(
    axes: Any, runs: Mapping[str, Sequence[EpochRecords]], field: str, metric: str
) -> None:
    """Plots one field of the records for all runs."""
    every_record = [record for seeds in runs.values() for run in seeds for record in run]
    is_score = field.startswith("validation_") or field == _AGREEMENT
    is_loss = (
        field.startswith("train_")
        and not is_score
        and not field.endswith("_scale")
        and not _is_recorded(every_record, field)
    )
    means = []
    for number, (name, seeds) in enumerate(runs.items()):
        # A score that is not finite is recorded as null and leaves a gap in the line.
        values = np.array(
            [[record.get(field) for record in run_records] for run_records in seeds], float
        )
        if np.isnan(values).all():
            continue
        color, style = f"C{number}", ("-", "--", "-.", ":")[number % 4]
        epochs = np.arange(1, values.shape[1] + 1)
        means.append(values.mean(axis=0))
        drawstyle = "default" if is_loss or is_score else "steps-mid"
        axes.plot(epochs, means[-1], style, color=color, label=name, drawstyle=drawstyle)
        if len(seeds) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
        for end in _stage_ends(seeds[0]):
            axes.axvline(end + 0.5, color=color, linestyle=":", linewidth=1)
    if not means:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center")
        return
    plotted = np.concatenate(means)
    if (is_loss or field == "learning_rate") and np.nanmin(plotted) > 0:
        axes.set_yscale("log")
    if field == f"validation_{metric}":
        # The scores of the first epochs are far lower and would hide later differences.
        axes.set_ylim(bottom=np.nanquantile(plotted, 0.1))
    axes.legend(loc="best", frameon=False, fontsize=9)
    axes.set_xlabel("epoch")
    axes.set_xlim(0, max(len(seeds[0]) for seeds in runs.values()) + 1)
    axes.grid(alpha=0.25)


def _is_shown(records: EpochRecords, field: str) -> bool:
    """Returns whether a field has several values, and is not the training loss itself."""
    values = [record[field] for record in records if field in record]
    losses = [record["train_loss"] for record in records if field in record]
    return len(set(values)) > 1 and not (field.startswith("train_") and values == losses)


def _is_recorded(records: EpochRecords, field: str) -> bool:
    """Returns whether a term has the weight 0 in all records, and so is no part of the loss."""
    weights = {record[f"{field}_scale"] for record in records if f"{field}_scale" in record}
    return weights == {0}


def _stage_ends(records: EpochRecords) -> list[int]:
    """Returns the last epoch of each stage but the final one, counted from the run's start."""
    pairs = enumerate(itertools.pairwise(records), start=1)
    return [epoch for epoch, (a, b) in pairs if a["stage"] != b["stage"]]


def _readable(field: str) -> str:
    """Returns a field's name as words, such as 'Validation accuracy'."""
    words = field.replace("_", " ")
    return words[:1].upper() + words[1:]
