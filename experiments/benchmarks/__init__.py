"""The suites of experiments.benchmark, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmarks import (
    cache,
    compilation,
    composition,
    decoder,
    generation,
    memory,
    overhead,
    recurrent,
    scaling,
    selection,
    text,
    torch_steps,
    vocabulary,
)
from experiments.benchmarks.torch_process import check_installed


def _measure_losses(repeats: int) -> dict[str, Any]:
    """Measures the suite 'losses'; imports PyTorch, which the other suites do not need."""
    check_installed("losses", "torch")
    from experiments.benchmarks.losses import suite

    return suite.measure(repeats)


# Maps a name to a function of the number of repeats. The function returns a dict with 'seconds'
# and 'ratios', both from name to value. Optional keys are 'table', a dict of 'headers' and 'rows',
# and 'notes', a list of sentences.
SUITES: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "cache": cache.measure,
    "compile": compilation.measure,
    "composition": composition.measure,
    "decoder": decoder.measure,
    "generation": generation.measure,
    "losses": _measure_losses,
    "memory": memory.measure,
    "overhead": overhead.measure,
    "recurrent": recurrent.measure,
    "scaling": scaling.measure,
    "selection": selection.measure,
    "text": text.measure,
    "torch": torch_steps.measure,
    "vocabulary": vocabulary.measure,
}
