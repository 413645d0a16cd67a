"""Training steps and texts of GPT-2 in transformers, in a separate process.

`python -m experiments.benchmarks.decoder_pytorch FOLDER` reads requests from standard input, one
per line: 'save' saves GPT-2 with random weights in the folder, 'train' makes an update, and
'generate BATCH' writes a batch of texts. It answers each with seconds.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from experiments.benchmarks.decoder_sizes import (
    END,
    HEADS,
    LAYERS,
    LENGTH,
    PAD,
    POSITIONS,
    START,
    VOCABULARY,
    WIDTH,
    prompts,
    rows,
)


def save_model(folder: str) -> Any:
    """Saves GPT-2 with random weights."""
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=POSITIONS,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            bos_token_id=START,
            eos_token_id=END,
        )
    )
    model.save_pretrained(folder)
    return model


def generation(model: Any, batch_size: int) -> Callable[[], Any]:
    """Returns a function that writes a batch, int64 [B, PROMPT_LENGTH + LENGTH]."""
    inputs = torch.from_numpy(prompts(batch_size)).long()
    mask = torch.ones_like(inputs)

    def generate() -> Any:
        with torch.inference_mode():
            return model.eval().generate(
                input_ids=inputs,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=LENGTH - 1,
                suppress_tokens=[END, START, PAD],
                pad_token_id=PAD,
                use_cache=True,
            )

    return generate


def training_step(model: Any) -> Callable[[], float]:
    """Returns a function that makes an update of AdamW, and returns the loss."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=1e-3,
        eps=1e-8,
    )
    tokens, labels = (torch.from_numpy(np.int64(array)) for array in rows())

    def step() -> float:
        logits = model.train()(input_ids=tokens).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=-100
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Answers requests with seconds."""
    model: Any = None

    @functools.cache
    def work(kind: str, *sizes: str) -> Callable[[], Any]:
        return training_step(model) if kind == "train" else generation(model, int(sizes[0]))

    for line in sys.stdin:
        started = time.perf_counter()
        if line.strip() == "save":
            model = save_model(sys.argv[1])
        else:
            run = work(*line.split())
            started = time.perf_counter()
            run()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
