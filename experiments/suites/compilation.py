"""Seconds to the first step, of a program never compiled before and of one that was."""

import statistics
import tempfile
from typing import Any

from experiments.suites import children

_SPECS = ("resnet:8", "resnet:20", "resnet:110")


def measure(repeats: int) -> dict[str, Any]:
    """Seconds from the end of the imports to the first step, each in a new process: until it could
    begin, which is its end less what a second step takes, and until its end.

    cold: with an empty folder of compiled programs; warm: with what the cold one left there.
    """
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    traces = set()
    for spec in _SPECS:
        found: dict[str, list[float]] = {
            f"{spec}, {when}, to the {what} of the first step": []
            for when in ("cold", "warm")
            for what in ("start", "end")
        }
        for _ in range(min(repeats, 3)):
            with tempfile.TemporaryDirectory() as folder:
                measured = []
                for _ in ("cold", "warm"):
                    child = children.start("first_step", spec, XDG_CACHE_HOME=folder)
                    step = children.result(child)
                    measured += [step["first"] - step["second"], step["first"]]
                    traces.add(step["traces"])
            for values, value in zip(found.values(), measured, strict=True):
                values.append(value)
        cold, cold_end, warm, warm_end = (statistics.median(values) for values in found.values())
        seconds |= dict(zip(found, (cold, cold_end, warm, warm_end), strict=True))
        ratios[f"{spec}: cold / warm, to the start of the first step"] = cold / warm
        ratios[f"{spec}: the same to its end"] = cold_end / warm_end
    return {
        "seconds": seconds,
        "ratios": ratios,
        "notes": [f"Traces of the step in each process, whatever the steps: {sorted(traces)}."],
    }
