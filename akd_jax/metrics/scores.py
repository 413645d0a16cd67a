"""The metrics of a task over a whole split, by name."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from akd_jax.metrics import classification, regression
from akd_jax.types import Task

# Metric name to a function of labels [N] and predictions [N]. The definitions are GLUE's, as far as
# GLUE has the metric.
METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": classification.accuracy,
    "f1": classification.f1,
    "matthews": classification.matthews,
    "mae": regression.mean_absolute_error,
    "pearson": regression.pearson,
    "rmse": regression.root_mean_squared_error,
    "spearman": regression.spearman,
}


def predictions(logits: np.ndarray, task: Task) -> np.ndarray:
    """Returns the predictions of logits [N, C]: class indices, or numbers of a regression."""
    return logits[..., 0] if task.regression else logits.argmax(axis=-1)


def scores(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, float]:
    """Returns the task's metrics over a whole split; they are not means over batches.

    The errors of a regression have the units of the task's files.

    Args:
      logits: [N, C].
      labels: [N].
      task: names the metrics.

    Raises:
      ValueError: the shape of the logits does not fit the labels and the task.
      InputError: a metric needs a package that is not installed.
    """
    if logits.shape != (*labels.shape, task.outputs):
        raise ValueError(
            f"logits: expected shape {(*labels.shape, task.outputs)}, got {logits.shape}"
        )
    predicted = predictions(logits, task)
    if task.regression:
        labels, predicted = task.unscale(labels), task.unscale(predicted)
    return {name: METRICS[name](labels, predicted) for name in task.metrics}


def constant_predictor_score(metric: str, labels: np.ndarray) -> float | None:
    """Returns the score that a constant predictor can reach.

    For accuracy it is the share of the most frequent class plus two standard errors. For F1 it
    is the score of predicting class 1 for every example. For correlations, which are 0 for a
    constant predictor, it is two standard errors. Other metrics have none.

    Args:
      metric: a name in `METRICS`.
      labels: [N].
    """
    count = len(labels)
    if metric in ("matthews", "pearson", "spearman"):
        return 2 / math.sqrt(count)
    if metric == "f1":
        positive = float(np.mean(labels == 1))
        return 2 * positive / (1 + positive)
    if metric != "accuracy":
        return None
    share = float(np.max(np.bincount(labels)) / count)
    return share + 2 * math.sqrt(share * (1 - share) / count)
