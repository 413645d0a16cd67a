"""The network and the texts of the suite 'decoder', for both frameworks."""

import numpy as np

VOCABULARY, WIDTH, LAYERS, HEADS, POSITIONS = 4_000, 256, 4, 4, 128
PROMPT_LENGTH, LENGTH = 32, 33  # Tokens of a prompt; of a completion with the start token.
BATCH_SIZE = 32  # Of an update.
BATCH_SIZES = (1, 64)  # Of generated texts.
PAD, END, START = 0, 1, 2
_UNLABELLED = -100


def prompts(batch_size: int) -> np.ndarray:
    """Returns random prompts with the start token at the end, int32 [B, PROMPT_LENGTH + 1]."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, VOCABULARY, (batch_size, PROMPT_LENGTH + 1)).astype(np.int32)
    tokens[:, -1] = START
    return tokens


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Returns the tokens of prompts and completions, and the labels, int32 [BATCH_SIZE, L]."""
    rng = np.random.default_rng(1)
    words = rng.integers(3, VOCABULARY, (BATCH_SIZE, LENGTH)).astype(np.int32)
    tokens = np.concatenate([prompts(BATCH_SIZE), words[:, :-1]], axis=1)
    unlabelled = np.full((BATCH_SIZE, PROMPT_LENGTH), _UNLABELLED, np.int32)
    return tokens, np.concatenate([unlabelled, words], axis=1)
