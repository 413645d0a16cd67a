"""Suite 'decoder': training steps and generated texts of GPT-2, against transformers."""

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from akd_jax import data
from akd_jax.models.decoder import Decoder
from akd_jax.models.huggingface import Folder, Gpt2Weights, gpt2
from akd_jax.models.network import Model
from akd_jax.training.generation import Writing, generate, greedy
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.types import COMPLETION, PROMPT, Tokens
from experiments.benchmarks import timing, workload
from experiments.benchmarks.decoder_sizes import (
    BATCH_SIZE,
    BATCH_SIZES,
    END,
    HEADS,
    LAYERS,
    LENGTH,
    PAD,
    PROMPT_LENGTH,
    START,
    VOCABULARY,
    WIDTH,
    prompts,
    rows,
)
from experiments.benchmarks.torch_process import check_installed, torch_process

_TORCH = "experiments.benchmarks.decoder_pytorch"


def measure(repeats: int) -> dict[str, Any]:
    """Measures both libraries in turn, with the same weights, texts and numbers of tokens.

    Raises:
      InputError: PyTorch or transformers is not installed.
    """
    check_installed("decoder", "torch", "transformers")
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, torch_process(_TORCH, folder) as pytorch:
        pytorch("save")
        model = load(pathlib.Path(folder))
        work: dict[str, tuple[str, Callable[[], Any]]] = {
            f"update of {BATCH_SIZE} rows": ("train", training_step(model)),
            **{
                f"{size} texts, greedy": (f"generate {size}", generation(model, size))
                for size in BATCH_SIZES
            },
        }
        ratios: dict[str, float] = {}
        for name, (request, run) in work.items():
            times = timing.medians(
                {
                    "JAX": timing.timed(run),
                    "PyTorch": functools.partial(pytorch, request),
                },
                repeats,
            )
            seconds |= {f"{name}, {library}": value for library, value in times.items()}
            ratios[f"PyTorch / JAX, {name}"] = times["PyTorch"] / times["JAX"]
    return {
        "seconds": seconds,
        "ratios": ratios,
        "notes": [
            f"GPT-2 with {LAYERS} layers of width {WIDTH}, {HEADS} heads and {VOCABULARY:,} tokens;"
            f" prompts of {PROMPT_LENGTH} tokens, and completions of {LENGTH - 1}, in float32."
        ],
    }


def load(folder: pathlib.Path) -> Model:
    """Returns the model of a folder."""
    module = Decoder(gpt2.read_config(folder))
    shapes = jax.eval_shape(module.init, jax.random.key(0), _texts(prompts(1)))
    variables = traverse_util.unflatten_dict(Gpt2Weights(Folder(folder))(shapes))
    return Model(jax.device_put(variables), module.apply)


def generation(model: Model, batch_size: int) -> Callable[[], jax.Array]:
    """Returns a function that writes a batch, int32 [B, LENGTH], and waits for it."""
    decode = functools.partial(greedy, writing=Writing(LENGTH, START, END, PAD, (END,)))
    inputs = jax.device_put(_texts(prompts(batch_size)))
    compiled = jax.jit(lambda model, inputs: generate(model, inputs, LENGTH, decode))
    return lambda: compiled(model, inputs).block_until_ready()


def training_step(model: Model) -> Callable[[], None]:
    """Returns a function that makes an update of AdamW, and waits for it."""
    tokens, labels = rows()
    batches = data.Batches(data.Examples(_texts(tokens), labels), BATCH_SIZE)
    run = workload.build(
        model,
        batches,
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=1e-3,
            weight_decay=0.01,
            clip_norm=1.0,
            schedule="constant",
        ),
        augmentation=None,
    )
    return functools.partial(workload.Trainer(run), next(batches.epoch()))


def _texts(tokens: np.ndarray) -> Tokens:
    """Returns prompts of PROMPT_LENGTH tokens, with the tokens of completions after them."""
    types = np.where(np.arange(tokens.shape[1]) < PROMPT_LENGTH, PROMPT, COMPLETION)
    return Tokens(
        tokens,
        np.broadcast_to(types, tokens.shape).astype(np.int32),
        np.full(len(tokens), tokens.shape[1], np.int32),
    )
