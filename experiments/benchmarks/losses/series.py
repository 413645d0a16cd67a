"""The time of a step, as the mean of a series of calls."""

import math
import time
from collections.abc import Callable
from typing import Any

from experiments.benchmarks import timing

_SECONDS = 0.02  # The length of a series, at least.


def measure_series(step: Callable[[], Any], wait: Callable[[Any], Any]) -> timing.Measurement:
    """Returns a function that measures the seconds of a step by a series of at least 20 ms.

    Args:
      step: starts the work and returns its result.
      wait: waits for a result.
    """
    wait(step())  # Compiles.
    started = time.perf_counter()
    wait(step())
    count = math.ceil(_SECONDS / (time.perf_counter() - started))

    def calls() -> None:
        for _ in range(count):
            result = step()
        wait(result)

    series = timing.timed(calls, count)

    def measurement() -> float:
        wait(step())  # Warms up the processor's caches and PyTorch's threads.
        return series()

    return measurement
