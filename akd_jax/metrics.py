"""Merging the metrics that steps return."""

from collections.abc import Iterable

import jax
import numpy as np

from akd_jax.types import Metrics


def means(metrics: Iterable[Metrics]) -> dict[str, float]:
    """The mean of each metric over all steps, each step counted by its weight.

    Waits for the steps and merges in float64, so that an epoch of any length keeps its
    precision.
    """
    totals: dict[str, np.ndarray] = {}
    for step in jax.device_get(list(metrics)):
        for name, value in step.items():
            pair = np.array([value.total, value.weight], np.float64)
            totals[name] = totals.get(name, np.zeros(2)) + pair
    return {name: float(total / weight) for name, (total, weight) in totals.items()}
