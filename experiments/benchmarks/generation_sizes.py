"""The network and the sources of the suite 'generation', for both frameworks."""

import numpy as np

VOCABULARY, WIDTH, LAYERS, HEADS, INNER = 4_000, 256, 2, 4, 1_024
LENGTH = 32  # Tokens of a source, and of a generated text with the start token.
BATCH_SIZES = (1, 64)
BEAMS = 5
END, PAD = 0, VOCABULARY - 1  # The start token is padding, as in Marian's models.


def sources(batch_size: int) -> np.ndarray:
    """Returns random sources of LENGTH tokens, with the end token, int32 [B, LENGTH]."""
    tokens = np.random.default_rng(0).integers(1, PAD, (batch_size, LENGTH)).astype(np.int32)
    tokens[:, -1] = END
    return tokens
