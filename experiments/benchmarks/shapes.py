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
SEQUENCES = 32  # Sequences per batch of a recurrent layer.
RECURRENT_WIDTH = 128  # Of its inputs, and of the states of each direction.
PAIRS_VOCABULARY = 8000  # Tokens of each side of the quality estimation student.
PAIRS_WIDTH = 50  # Of its embeddings, and of the states of each direction.


def tokens(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random token ids int32 [B, L], and random labels int32 [B]."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, (TEXTS, length)).astype(np.int32)
    return ids, rng.integers(0, 2, TEXTS).astype(np.int32)


def sequences(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random sequences float32 [B, T, D], and their lengths from 1 to T, int32 [B]."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SEQUENCES, length, RECURRENT_WIDTH)).astype(np.float32)
    lengths = rng.integers(1, length + 1, SEQUENCES).astype(np.int32)
    lengths[0] = length
    return inputs, lengths


def pairs(length: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Returns pairs of texts of up to `length` tokens with scores from 0 to 1.

    Returns:
      The random token ids int32 [B, L] and lengths int32 [B] of the sources and of the targets;
      and the scores, float32 [B].
    """
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(2):
        ids = rng.integers(0, PAIRS_VOCABULARY, (SEQUENCES, length)).astype(np.int32)
        lengths = rng.integers(1, length + 1, SEQUENCES).astype(np.int32)
        lengths[0] = length
        sides.append((ids, lengths))
    return sides, rng.uniform(size=SEQUENCES).astype(np.float32)
