"""The scores of a stream of tasks after each task, as heat maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from akd_jax.metrics import streams as metrics

_COLUMNS = 4  # Heat maps side by side.


def read(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the scores on the tasks so far, by the name of each stage; {} for other runs.

    Args:
      results: the content of a run's results.json.
    """
    return {
        stage["name"]: {split.removeprefix("test_"): score for split, score in tests.items()}
        for stage in results["stages"]
        if (tests := stage.get("tests"))
    }


def scores(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns 'after learning', 'teachers', 'forgetting' and 'malformed'.

    'teachers' is the mean score of each teacher on its own task, and 'malformed' the mean share of
    dropped replay. A score is None if the tasks are learned together, there is no teacher, or
    nothing was replayed.

    Args:
      results: the content of a run's results.json.
    """
    rows = [list(stage.values()) for stage in read(results).values()]
    is_stream = [len(row) for row in rows] == list(range(1, len(rows) + 1)) and rows
    shares = [stage["malformed"] for stage in results["stages"] if "malformed" in stage]
    taught = [score for s in results["stages"] for score in s.get("teacher_tests", {}).values()]
    return {
        "after learning": metrics.learning_accuracy(rows) if is_stream else None,
        "teachers": float(np.mean(taught)) if taught else None,
        "forgetting": metrics.forgetting(rows) if is_stream else None,
        "malformed": float(np.mean(shares)) if shares else None,
    }


def draw(streams: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Draws a heat map of each stream: a row for each stage, and a column for each task.

    Args:
      streams: the scores of each stream, as `read` returns them, by its title.
    """
    columns = min(_COLUMNS, len(streams))
    rows = -(-len(streams) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.8, 2.7 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    image = None
    for axes, (title, stages) in zip(grid, streams.items(), strict=False):
        tasks = list(list(stages.values())[-1])
        values = np.array(
            [[stage.get(task, np.nan) for task in tasks] for stage in stages.values()], float
        )
        image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "black" if value > 0.6 else "white"
                axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_yticks(range(len(stages)), list(stages))
        axes.set_xlabel("score on")
        axes.set_ylabel("after learning")
        axes.set_title(title, fontsize=11)
    for axes in grid[len(streams) :]:
        axes.set_axis_off()
    if image is not None:
        figure.colorbar(image, ax=figure.axes, label="score", shrink=0.8)
    return figure
