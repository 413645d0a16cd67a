"""The suites of experiments.benchmark, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmarks import cache, compilation, memory, overhead, scaling, text, torch_steps

# Name to a function of the number of repeats. It returns 'seconds' and 'ratios' by name, and
# perhaps a 'table' of 'headers' and 'rows', and 'notes'.
SUITES: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "cache": cache.measure,
    "compile": compilation.measure,
    "memory": memory.measure,
    "overhead": overhead.measure,
    "scaling": scaling.measure,
    "text": text.measure,
    "torch": torch_steps.measure,
}
