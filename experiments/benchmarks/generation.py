"""Suite 'generation': tokens per second against transformers, and the steps of ImitKD."""

import functools
import tempfile
from typing import Any

from experiments import options
from experiments.benchmarks import timing, workload
from experiments.benchmarks.generation_sizes import (
    BATCH_SIZES,
    BEAMS,
    HEADS,
    INNER,
    LAYERS,
    LENGTH,
    VOCABULARY,
    WIDTH,
)
from experiments.benchmarks.stages import last_stage
from experiments.benchmarks.torch_process import check_installed, torch_process
from experiments.grid import row_config

_BATCHES = 30
_VANILLA = "vanilla"
_ROWS = (_VANILLA, "word_kd", "imitkd", "imitkd_full")
_JAX, _TORCH = "experiments.benchmarks.generation_jax", "experiments.benchmarks.generation_pytorch"


def measure(repeats: int) -> dict[str, Any]:
    """Measures generated tokens per second in turn: JAX, transformers, and JAX on one core.

    All generate the same number of tokens for the same sources with the same weights; the network
    never writes the end token. With --config, such as configs/translation.py, the updates of
    ImitKD are measured against those of training on the data.

    Raises:
      InputError: PyTorch or transformers is not installed.
    """
    check_installed("generation", "torch", "transformers")
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    rows: list[list[str]] = []
    notes = [
        f"A Transformer with {LAYERS} + {LAYERS} layers of width {WIDTH}, {HEADS} heads, blocks of"
        f" {INNER} and {VOCABULARY:,} tokens reads sources of {LENGTH} tokens and writes"
        f" {LENGTH - 1}, in float32.",
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        torch_process(_TORCH, folder) as pytorch,
    ):
        pytorch("save")
        with (
            torch_process(_JAX, folder, "2") as two_cores,
            torch_process(_JAX, folder, "1") as one_core,
        ):
            processes = {"JAX": two_cores, "PyTorch": pytorch, "JAX on one core": one_core}
            for batch_size in BATCH_SIZES:
                for beams in (1, BEAMS):
                    request = f"{batch_size} {beams}"
                    name = f"batch {batch_size}, {'greedy' if beams == 1 else f'{beams} beams'}"
                    times = timing.medians(
                        {x: functools.partial(run, request) for x, run in processes.items()},
                        repeats,
                    )
                    seconds |= {f"{name}, {x}": value for x, value in times.items()}
                    ratios[f"PyTorch / JAX, {name}"] = times["PyTorch"] / times["JAX"]
                    ratios[f"one core / two cores, {name}"] = (
                        times["JAX on one core"] / times["JAX"]
                    )
                    tokens = batch_size * (LENGTH - 1)
                    rows.append([name, *(f"{tokens / value:,.0f}" for value in times.values())])
    config = options.config_flag().value
    if config is not None:
        config.dataset.train_size = _BATCHES * config.batch_size
        epochs = {row: workload.epoch(last_stage(row_config(config, row))) for row in _ROWS}
        updates = timing.median_times(epochs, repeats)
        seconds |= {f"{_BATCHES} updates, {row}": value for row, value in updates.items()}
        ratios |= {
            f"updates, {row} / {_VANILLA}": updates[row] / updates[_VANILLA] for row in _ROWS[1:]
        }
        notes.append(
            f"Updates: {config.student.model} learns from {config.teacher.model}, both with random"
            f" weights, in batches of {config.batch_size}."
        )
    return {
        "seconds": seconds,
        "ratios": ratios,
        "table": {"headers": ["tokens per second", *processes], "rows": rows},
        "notes": notes,
    }
