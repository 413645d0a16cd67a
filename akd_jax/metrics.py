"""Merging the sums that steps return, and the tasks' metrics over a whole split."""

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.stats
import sklearn.metrics

from akd_jax.types import Metrics, Task

Sums = dict[str, list[float]]  # Name to total and weight of a metric, over any number of steps.


def add(sums: Sums, step: Metrics) -> Sums:
    """Adds the metrics of a step to the sums of those before, and returns them.

    In float64, so that an epoch of any length keeps its precision.
    """
    for name, value in step.items():
        total, weight = sums.get(name, (0.0, 0.0))
        sums[name] = [total + float(value.total), weight + float(value.weight)]
    return sums


def means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each metric, each step counted by its weight; nan where nothing was counted."""
    return {name: total / weight if weight else math.nan for name, (total, weight) in sums.items()}


def predictions(logits: np.ndarray, task: Task) -> np.ndarray:
    """What logits [N, C] predict: class indices [N], or the numbers of a regression [N]."""
    return logits[:, 0] if task.regression else logits.argmax(axis=-1)


def scores(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, float]:
    """The task's metrics over a whole split, never averaged over its batches.

    Args:
      logits: [N, C].
      labels: [N].
      task: names its metrics.

    Raises:
      ValueError: the shapes differ.
    """
    if logits.shape != (len(labels), task.outputs):
        raise ValueError(f"expected logits {(len(labels), task.outputs)}, got {logits.shape}")
    found = predictions(logits, task)
    return {name: METRICS[name](labels, found) for name in task.metrics}


def constant_predictor_score(metric: str, labels: np.ndarray) -> float:
    """A score up to which a model may know nothing of the inputs.

    Of accuracy that of always naming one class, plus two standard errors; of F1 that of always
    naming class 1; of correlations, which are 0 without a look, two standard errors.
    """
    count = len(labels)
    if metric not in ("accuracy", "f1"):
        return 2 / math.sqrt(count)
    if metric == "f1":
        positive = float(np.mean(labels == 1))
        return 2 * positive / (1 + positive)  # Always naming class 1.
    share = float(np.max(np.bincount(labels)) / count)
    return share + 2 * math.sqrt(share * (1 - share) / count)


def _correlation(function: Callable[..., tuple[float, float]]) -> Callable[..., float]:
    def correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
        labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
        if not np.isfinite(predictions).all():
            return math.nan
        if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
            return 0.0  # It is not defined; what is always the same is worth nothing.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.NearConstantInputWarning)
            return float(function(labels, predictions)[0])

    return correlation


def _of_classes(function: Callable[..., float]) -> Callable[..., float]:
    def metric(labels: np.ndarray, predictions: np.ndarray) -> float:
        with warnings.catch_warnings():
            # Of a split with one class, all of it predicted so.
            warnings.filterwarnings("ignore", "A single label was found")
            return float(function(labels, predictions))

    return metric


# Name to a function of labels [N] and predictions [N]. As GLUE defines them; F1 is class 1's.
METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, predictions: float(np.mean(labels == predictions)),
    "f1": _of_classes(functools.partial(sklearn.metrics.f1_score, zero_division=0)),
    "matthews": _of_classes(sklearn.metrics.matthews_corrcoef),
    "pearson": _correlation(scipy.stats.pearsonr),
    "spearman": _correlation(scipy.stats.spearmanr),
}
