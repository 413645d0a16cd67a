"""Seconds to the first step, of a program never compiled before and of one that was."""

import statistics
import tempfile
from typing import Any

from experiments.suites import children

_SPECS = ("resnet:8", "resnet:20", "resnet:110")


def measure(repeats: int) -> dict[str, Any]:
    """Seconds from the end of the imports to the end of the first step, each in a new process.

    cold: with an empty folder of compiled programs; warm: with what the cold one left there.
    """
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    traces = set()
    for spec in _SPECS:
        found: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(min(repeats, 3)):
            with tempfile.TemporaryDirectory() as folder:
                for values in found.values():
                    child = children.start("first_step", spec, XDG_CACHE_HOME=folder)
                    step = children.result(child)
                    values.append(step["seconds"])
                    traces.add(step["traces"])
        for name, values in found.items():
            seconds[f"{spec}, {name}"] = statistics.median(values)
        ratios[f"{spec}: cold / warm"] = seconds[f"{spec}, cold"] / seconds[f"{spec}, warm"]
    return {
        "seconds": seconds,
        "ratios": ratios,
        "notes": [f"Traces of the step in each process, whatever the steps: {sorted(traces)}."],
    }
