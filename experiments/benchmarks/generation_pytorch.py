"""Texts that a model of transformers generates, in a separate process.

`python -m experiments.benchmarks.generation_pytorch FOLDER` reads requests from standard input, one
per line: 'save' saves a translation model with random weights in the folder, and 'BATCH BEAMS'
generates a batch. It answers each with seconds.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

from experiments.benchmarks.generation_sizes import (
    END,
    HEADS,
    INNER,
    LAYERS,
    LENGTH,
    PAD,
    VOCABULARY,
    WIDTH,
    sources,
)


def save_model(folder: str) -> Any:
    """Saves a translation model with random weights, which never writes the end token."""
    torch.manual_seed(0)
    settings = transformers.MarianConfig(
        vocab_size=VOCABULARY,
        decoder_vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=INNER,
        decoder_ffn_dim=INNER,
        max_position_embeddings=512,
        activation_function="swish",
        scale_embedding=True,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=None,
        forced_eos_token_id=None,
        decoder_start_token_id=PAD,
    )
    model = transformers.MarianMTModel(settings).eval()
    with torch.no_grad():
        model.final_logits_bias[0, END] = -1e4
        model.final_logits_bias[0, PAD] = -1e4
    model.save_pretrained(folder)
    return model


def generation(model: Any, batch_size: int, beams: int) -> Callable[[], Any]:
    """Returns a function that generates a batch of texts, int64 [B, LENGTH], with a cache."""
    inputs = torch.from_numpy(sources(batch_size)).long()
    mask = torch.ones_like(inputs)

    def generate() -> Any:
        with torch.inference_mode():
            return model.generate(
                input_ids=inputs,
                attention_mask=mask,
                num_beams=beams,
                do_sample=False,
                max_length=LENGTH,
                length_penalty=0.0,
                use_cache=True,
            )

    return generate


def main() -> None:
    """Answers requests with seconds."""
    model: Any = None

    @functools.cache
    def work(batch_size: str, beams: str) -> Callable[[], Any]:
        return generation(model, int(batch_size), int(beams))

    for line in sys.stdin:
        started = time.perf_counter()
        if line.strip() == "save":
            model = save_model(sys.argv[1])
        else:
            work(*line.split())()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
