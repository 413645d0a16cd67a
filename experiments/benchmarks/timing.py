"""Paired timings: the variants of a comparison run in turn, and the median of each is kept."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Measurement = Callable[[], float]  # Does some work and returns its seconds.


def timed(
    function: Callable[[], Any], units: int = 1, clock: Measurement = time.perf_counter
) -> Measurement:
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
    clock: Measurement = time.perf_counter,
) -> dict[str, float]:
    """Returns the median seconds of a call of each function, see `medians`."""
    return medians({name: timed(run, clock=clock) for name, run in functions.items()}, repeats)


def medians(
    measurements: Mapping[str, Measurement], repeats: int, *, warm_up: bool = True
) -> dict[str, float]:
    """Returns the median of the values that each measurement returns.

    The measurements take turns, so that a change of the machine's speed affects all of them.

    Args:
      measurements: maps the name of a variant to a function that returns its seconds.
      repeats: number of values of each variant.
      warm_up: whether an additional first turn is dropped. It compiles the programs.
    """
    values = _take_turns(measurements, repeats, warm_up=warm_up)
    return {name: statistics.median(taken) for name, taken in values.items()}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A variant that was measured in turn with its baseline.

    Attributes:
      baseline: the median seconds of the baseline.
      variant: the median seconds of the variant.
      ratios: variant / baseline of each turn, in increasing order.
    """

    baseline: float
    variant: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> str:
        """The range of the ratios, for a note."""
        return f"the pairs' ratios lie between {self.ratios[0]:.2f} and {self.ratios[-1]:.2f}."


def pair(baseline: Measurement, variant: Measurement, repeats: int) -> Pair:
    """Measures a variant and its baseline in turn. An additional first turn is dropped."""
    values = _take_turns({"baseline": baseline, "variant": variant}, repeats, warm_up=True)
    turns = zip(values["baseline"], values["variant"], strict=True)
    return Pair(
        statistics.median(values["baseline"]),
        statistics.median(values["variant"]),
        tuple(sorted(seconds / reference for reference, seconds in turns)),
    )


def _take_turns(
    measurements: Mapping[str, Measurement], repeats: int, *, warm_up: bool
) -> dict[str, list[float]]:
    """Returns the values of each measurement, without those of a warm-up."""
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repeats + warm_up):
        for name, measure in measurements.items():
            values[name].append(measure())
    return {name: taken[warm_up:] for name, taken in values.items()}
