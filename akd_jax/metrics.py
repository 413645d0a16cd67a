"""Merging the sums that steps return, and the tasks' metrics over a whole split."""

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.stats
import sklearn.metrics

from akd_jax.types import Metrics, Task


class Totals:
    """Metrics merged over the steps of an epoch, each step counted by its weight.

    Merged in float64, so that an epoch of any length keeps its precision.

    Args:
      sums: those of steps before: name to total and weight, as `sums` gives them.
    """

    def __init__(self, sums: Mapping[str, Sequence[float]] | None = None):
        self.sums: dict[str, list[float]] = {k: list(v) for k, v in (sums or {}).items()}

    def add(self, step: Metrics) -> "Totals":
        """Counts a step in; returns the totals of this step alone."""
        found = {name: [float(value.total), float(value.weight)] for name, value in step.items()}
        for name, (total, weight) in found.items():
            before = self.sums.setdefault(name, [0.0, 0.0])
            self.sums[name] = [before[0] + total, before[1] + weight]
        return Totals(found)

    def means(self) -> dict[str, float]:
        """The mean of each metric; nan where nothing was counted."""
        return {
            name: total / weight if weight else math.nan
            for name, (total, weight) in self.sums.items()
        }


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


def chance(metric: str, labels: np.ndarray) -> float:
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
