"""Texts that a network of this library generates, in a separate process on some of the cores.

`python -m experiments.benchmarks.generation_jax FOLDER CORES` reads requests 'BATCH BEAMS' from
standard input, one per line, and answers each with the seconds of a batch. The network is that of a
Hugging Face folder.
"""

import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from akd_jax.host.files import Path
from akd_jax.models.huggingface import marian
from akd_jax.models.network import Model
from akd_jax.models.seq2seq import Transformer
from akd_jax.training.beam_search import beam_search
from akd_jax.training.generation import Step, Writing, generate, greedy
from akd_jax.types import SOURCE, TARGET, Tokens
from experiments.benchmarks.generation_sizes import END, LENGTH, PAD, sources
from experiments.jax_setup import set_up_jax


def load(folder: Path) -> Model:
    """Returns the model of a folder."""
    module = Transformer(marian.read_config(folder))
    shapes = jax.eval_shape(module.init, jax.random.key(0), texts(1))
    variables = traverse_util.unflatten_dict(marian.read_weights(folder, shapes))
    return Model(jax.device_put(variables), module.apply)


def texts(batch_size: int) -> dict[str, Tokens]:
    """Returns the sources, and contexts of one token, which generation does not read."""
    ids = sources(batch_size)
    start = np.full((batch_size, 1), PAD, np.int32)
    return {
        SOURCE: Tokens(ids, np.zeros_like(ids), np.full(batch_size, LENGTH, np.int32)),
        TARGET: Tokens(start, np.zeros_like(start), np.ones(batch_size, np.int32)),
    }


def generation(model: Model, batch_size: int, beams: int) -> Callable[[], jax.Array]:
    """Returns a function that generates a batch of texts, int32 [B, LENGTH], and waits for it."""
    writing = Writing(LENGTH, PAD, END, PAD)
    inputs = jax.device_put(texts(batch_size))

    def decode(step: Step, cache: Any, rows: int) -> jax.Array:
        if beams == 1:
            return greedy(step, cache, rows, writing)
        return beam_search(step, cache, rows, writing, beams=beams)[0][:, 0]

    compiled = jax.jit(lambda model, inputs: generate(model, inputs, LENGTH, decode))
    return lambda: compiled(model, inputs).block_until_ready()


def main() -> None:
    """Answers requests with seconds."""
    folder, cores = sys.argv[1:]
    # Before JAX starts its threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    set_up_jax()
    model = load(pathlib.Path(folder))

    @functools.cache
    def work(batch_size: str, beams: str) -> Callable[[], jax.Array]:
        return generation(model, int(batch_size), int(beams))

    for line in sys.stdin:
        generate_batch = work(*line.split())
        started = time.perf_counter()
        generate_batch()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
