"""Metrics of a regression over a whole split. SciPy is imported on first use."""

import math
import warnings

import numpy as np

from akd_jax.host.errors import require


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Pearson's correlation coefficient."""
    return _correlation("pearsonr", labels, predictions)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Spearman's rank correlation coefficient."""
    return _correlation("spearmanr", labels, predictions)


def mean_absolute_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the mean of |prediction - label|, in their units."""
    return float(np.mean(np.abs(np.float64(predictions) - labels)))


def root_mean_squared_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the square root of the mean of (prediction - label)^2, in their units."""
    return math.sqrt(np.mean((np.float64(predictions) - labels) ** 2))


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
