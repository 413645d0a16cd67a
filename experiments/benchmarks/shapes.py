"""Sizes of the networks and batches that both sides of the PyTorch comparison use.

This module imports neither JAX nor PyTorch, so that each side can run in its own process.
"""

from typing import Any

import numpy as np

ENCODER: dict[str, Any] = {  # The sizes of MiniLM.
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
TEACHER: dict[str, Any] = {  # The sizes of BERT-base.
    **ENCODER,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
}
TEXTS = 32  # Texts per batch.
BATCH_SIZE = 128  # Images per batch.


def tokens(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random token ids int32 [B, L], and random labels int32 [B]."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, (TEXTS, length)).astype(np.int32)
    return ids, rng.integers(0, 2, TEXTS).astype(np.int32)
