"""The sizes of what is compared with PyTorch, for both sides; without JAX and PyTorch."""

from typing import Any

import numpy as np

ENCODER: dict[str, Any] = {  # MiniLM's sizes.
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
TEACHER: dict[str, Any] = {  # BERT-base's.
    **ENCODER,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
}
TEXTS = 32  # Of a batch.
BATCH_SIZE = 128  # Of images.


def tokens(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random token ids int32 [B, L], and labels."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, (TEXTS, length)).astype(np.int32)
    return ids, rng.integers(0, 2, TEXTS).astype(np.int32)
