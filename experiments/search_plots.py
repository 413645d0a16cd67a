"""Pictures of a search: the scores of its trials, and how much each field matters."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from akd_jax.host.files import Path
from experiments import pictures

HISTORY, IMPORTANCE = "search_history.png", "search_importance.png"


def draw_history(search: Mapping[str, Any]) -> Figure:
    """Draws the score of each trial, and the best score so far as a line, for each row.

    A tenth of the trials, the worst ones, is below the picture.
    """
    figure, axes = pictures.new_axes()
    every: list[float] = []
    for number, (row, entry) in enumerate(search["methods"].items()):
        scores = [math.nan if x["mean"] is None else x["mean"] for x in entry["trials"]]
        color = f"C{number}"
        axes.plot(range(1, len(scores) + 1), scores, "o", color=color, alpha=0.4, markersize=4)
        every += scores
        best = np.fmax.accumulate(scores)
        axes.step(range(1, len(scores) + 1), best, color=color, where="post", label=row)
    if drawn := [x for x in every if not math.isnan(x)]:
        # Bad trials would hide the differences of the good ones.
        axes.set_ylim(bottom=np.quantile(drawn, 0.1) - 0.01)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"mean validation {search['metric']}")
    pictures.add_legend(figure)
    return figure


def draw_importance(search: Mapping[str, Any]) -> Figure:
    """Draws the share of each field in what makes a trial good, for each row."""
    rows = {row: x["importance"] for row, x in search["methods"].items() if x["importance"]}
    figure, axes = pictures.new_axes(height=0.8 + 0.3 * sum(map(len, rows.values())))
    axes.grid(visible=False)
    names: list[str] = []
    for number, (row, shares) in enumerate(rows.items()):
        for field, share in shares.items():
            axes.barh(len(names), share, color=f"C{number}")
            names.append(f"{row}: {field}")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("importance (PED-ANOVA)")
    return figure


def write(search: Mapping[str, Any], workdir: Path) -> None:
    """Writes both pictures to the folder of the search."""
    drawn = {HISTORY: draw_history(search)}
    if any(entry["importance"] for entry in search["methods"].values()):
        drawn[IMPORTANCE] = draw_importance(search)
    for name, figure in drawn.items():
        pictures.write(figure, workdir / name)
