"""The suites of experiments.benchmark, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmarks import (
    cache,
    compilation,
    composition,
    memory,
    overhead,
    scaling,
    text,
    torch_steps,
    vocabulary,
)

# Maps a name to a function of the number of repeats. The function returns a dict with 'seconds'
# and 'ratios', both from name to value. Optional keys are 'table', a dict of 'headers' and 'rows',
# and 'notes', a list of sentences.
SUITES: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "cache": cache.measure,
    "compile": compilation.measure,
    "composition": composition.measure,
    "memory": memory.measure,
    "overhead": overhead.measure,
    "scaling": scaling.measure,
    "text": text.measure,
    "torch": torch_steps.measure,
    "vocabulary": vocabulary.measure,
}
