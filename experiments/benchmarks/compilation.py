"""Suite 'compile': seconds to the first step with an empty and with a filled compilation cache."""

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
    """Measures the seconds from the end of the imports to the first training step.

    Each measurement is made in a new process. 'cold' processes start with an empty compilation
    cache; 'warm' ones start with the cache that the cold process has filled. The end of the first
    step is measured. Its start is the end minus the duration of the second step.
    """
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    traces = set()
    for spec in _SPECS:
        pairs = [_cold_and_warm(spec) for _ in range(repeats)]
        for moment, seconds_to in _MOMENTS.items():
            cold, warm = (
                statistics.median(map(seconds_to, steps)) for steps in zip(*pairs, strict=True)
            )
            label = f"to the {moment} of the first step"
            seconds |= {f"{spec}, cold, {label}": cold, f"{spec}, warm, {label}": warm}
            ratios[f"{spec}: cold / warm, {label}"] = cold / warm
        traces |= {step["traces"] for pair in pairs for step in pair}
    return {
        "seconds": seconds,
        "ratios": ratios,
        "notes": [f"Traces of the step in each process, over all steps: {sorted(traces)}."],
    }


def _cold_and_warm(spec: str) -> list[dict[str, Any]]:
    """Measures the first steps of two processes that share a compilation cache, in sequence."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            children.result(children.start("first_step", spec, XDG_CACHE_HOME=folder))
            for _ in ("cold", "warm")
        ]
