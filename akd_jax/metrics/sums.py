"""Merging of the weighted sums that steps return."""

import math
from collections.abc import Mapping, Sequence

from akd_jax.types import Metrics

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
