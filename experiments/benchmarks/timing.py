"""Paired timings: the variants of a comparison run in turn, and the median of each is kept."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def timed(
    function: Callable[[], Any], units: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """Returns a function that calls `function` once and returns the seconds per unit of work.

    Args:
      function: the work. It must wait for its results.
      units: units of work in one call, such as steps.
      clock: returns the current time in seconds.
    """

    def seconds_per_unit() -> float:
        start = clock()
        function()
        return (clock() - start) / units

    return seconds_per_unit


def median_times(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Returns the median seconds of a call of each function, see `medians`."""
    return medians({name: timed(run, clock=clock) for name, run in functions.items()}, repeats)


def medians(
    measurements: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: bool = True
) -> dict[str, float]:
    """Returns the median of the values that each measurement returns.

    The measurements take turns, so that a change of the machine's speed affects all of them.

    Args:
      measurements: maps the name of a variant to a function that returns its seconds.
      repeats: number of values of each variant.
      warm_up: whether an additional first turn is dropped. It compiles the programs.
    """
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repeats + warm_up):
        for name, measure in measurements.items():
            values[name].append(measure())
    return {name: statistics.median(taken[warm_up:]) for name, taken in values.items()}
