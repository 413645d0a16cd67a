"""The time of a step, as the mean of a series of calls."""

import time
from collections.abc import Callable
from typing import Any

from experiments.benchmarks import timing

_SECONDS = 0.2  # The length of a series, at least; a start after other work is slower.


def measure_series(step: Callable[[], Any], wait: Callable[[Any], Any]) -> timing.Measurement:
    """Returns a function that measures the seconds of a step by a series of 0.2 s or more.

    Args:
      step: starts the work and returns its result.
      wait: waits for a result.
    """

    def series(count: int) -> None:
        for _ in range(count):
            result = step()
        wait(result)

    series(1)  # Compiles.
    count, seconds = 0, 0.0
    while seconds < _SECONDS:
        count = max(1, 2 * count)
        started = time.perf_counter()
        series(count)
        seconds = time.perf_counter() - started
    measured = timing.timed(lambda: series(count), count)

    def measurement() -> float:
        series(1)  # Warms up the processor's caches and PyTorch's threads.
        return measured()

    return measurement
