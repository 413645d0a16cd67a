"""Seconds to the first step, of a program never compiled before and of one that was."""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmarks import children

_SPECS = ("resnet:8", "resnet:20", "resnet:110")
_MOMENTS: Mapping[str, Callable[[Mapping[str, float]], float]] = {
    "start": lambda seconds: seconds["first"] - seconds["second"],
    "end": lambda seconds: seconds["first"],
}


def measure(repeats: int) -> dict[str, Any]:
    """Seconds from the end of the imports to the first step, each in a new process: until it could
    begin, which is its end less what a second step takes, and until its end.

    cold: with an empty folder of compiled programs; warm: with what the cold one left there.
    """
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    traces = set()
    for spec in _SPECS:
        pairs = [_cold_and_warm(spec) for _ in range(min(repeats, 3))]
        for moment, seconds_to in _MOMENTS.items():
            cold, warm = (
                statistics.median(map(seconds_to, steps)) for steps in zip(*pairs, strict=True)
            )
            what = f"to the {moment} of the first step"
            seconds |= {f"{spec}, cold, {what}": cold, f"{spec}, warm, {what}": warm}
            ratios[f"{spec}: cold / warm, {what}"] = cold / warm
        traces |= {step["traces"] for pair in pairs for step in pair}
    return {
        "seconds": seconds,
        "ratios": ratios,
        "notes": [f"Traces of the step in each process, whatever the steps: {sorted(traces)}."],
    }


def _cold_and_warm(spec: str) -> list[dict[str, Any]]:
    """What two processes, one after the other, say of their first steps."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            children.result(children.start("first_step", spec, XDG_CACHE_HOME=folder))
            for _ in ("cold", "warm")
        ]
