"""Metrics of a classification over a whole split. scikit-learn is imported on first use."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from akd_jax.host.errors import require


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the share of correct predictions."""
    return float(np.mean(labels == predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the F1 score of class 1; 0 if it is undefined."""
    package = require("sklearn.metrics", "text")
    return _without_warning(package.f1_score, labels, predictions, zero_division=0)


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns Matthews' correlation coefficient."""
    package = require("sklearn.metrics", "text")
    return _without_warning(package.matthews_corrcoef, labels, predictions)


def _without_warning(function: Callable[..., float], *args: Any, **kwargs: Any) -> float:
    """Calls a function of scikit-learn without its warning about a single class."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A single label was found")
        return float(function(*args, **kwargs))
