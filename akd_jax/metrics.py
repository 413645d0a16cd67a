"""Merging of the sums that steps return, and the metrics of the tasks over a whole split.

scikit-learn and SciPy are imported by the metrics that need them, so that training without
these metrics does not need the packages.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from akd_jax.errors import require
from akd_jax.types import Metrics, Task

Sums = dict[str, list[float]]  # Metric name to total and weight over any number of steps.


def add(sums: Sums, step: Metrics) -> Sums:
    """Adds the metrics of a step to the sums of earlier steps, and returns the sums.

    The sums are Python floats (float64), so that a long epoch keeps its precision.
    """
    for name, value in step.items():
        total, weight = sums.get(name, (0.0, 0.0))
        sums[name] = [total + float(value.total), weight + float(value.weight)]
    return sums


def means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the weighted mean of each metric; NaN for a metric whose weight is 0."""
    return {name: total / weight if weight else math.nan for name, (total, weight) in sums.items()}


def predictions(logits: np.ndarray, task: Task) -> np.ndarray:
    """Returns the predictions of logits [N, C]: class indices [N], or numbers of a regression."""
    return logits[:, 0] if task.regression else logits.argmax(axis=-1)


def scores(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, float]:
    """Returns the task's metrics over a whole split; they are not means over batches.

    Args:
      logits: [N, C].
      labels: [N].
      task: names the metrics.

    Raises:
      ValueError: the shape of the logits does not fit the labels and the task.
      InputError: a metric needs a package that is not installed.
    """
    if logits.shape != (len(labels), task.outputs):
        raise ValueError(
            f"logits: expected shape {(len(labels), task.outputs)}, got {logits.shape}"
        )
    predicted = predictions(logits, task)
    return {name: METRICS[name](labels, predicted) for name in task.metrics}


def constant_predictor_score(metric: str, labels: np.ndarray) -> float:
    """Returns the score that a constant predictor can reach.

    For accuracy it is the share of the most frequent class plus two standard errors. For F1 it
    is the score of predicting class 1 for every example. For correlations, which are 0 for a
    constant predictor, it is two standard errors.

    Args:
      metric: a name in `METRICS`.
      labels: [N].
    """
    count = len(labels)
    if metric not in ("accuracy", "f1"):
        return 2 / math.sqrt(count)
    if metric == "f1":
        positive = float(np.mean(labels == 1))
        return 2 * positive / (1 + positive)
    share = float(np.max(np.bincount(labels)) / count)
    return share + 2 * math.sqrt(share * (1 - share) / count)


def _accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the share of correct predictions."""
    return float(np.mean(labels == predictions))


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the F1 score of class 1; 0 if it is undefined."""
    package = require("sklearn.metrics", "text")
    return _without_warning(package.f1_score, labels, predictions, zero_division=0)


def _matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Matthews' correlation coefficient."""
    package = require("sklearn.metrics", "text")
    return _without_warning(package.matthews_corrcoef, labels, predictions)


def _pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Pearson's correlation coefficient."""
    return _correlation("pearsonr", labels, predictions)


def _spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Spearman's rank correlation coefficient."""
    return _correlation("spearmanr", labels, predictions)


def _without_warning(function: Callable[..., float], *args: Any, **kwargs: Any) -> float:
    """Calls a function of scikit-learn without its warning about a single class."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A single label was found")
        return float(function(*args, **kwargs))


def _correlation(function: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns a correlation of `scipy.stats`: NaN for non-finite predictions, 0 if undefined."""
    stats = require("scipy.stats", "text")
    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    if not np.isfinite(predictions).all():
        return math.nan
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0  # The correlation with a constant is undefined.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(getattr(stats, function)(labels, predictions)[0])


# Metric name to a function of labels [N] and predictions [N]. The definitions are GLUE's.
METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
