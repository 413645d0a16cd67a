"""Texts as their characters, for networks without a vocabulary."""

import numpy as np

from akd_jax.data.text import Vocabulary
from akd_jax.types import Tokens

# ASCII's characters for the start and the end of a text. Padding is the character 0.
START, END = "\x02", "\x03"


def tokenise(texts: np.ndarray, max_length: int) -> tuple[Tokens, np.ndarray]:
    """Converts texts to the Unicode code points of their characters, padded to `max_length`.

    A text a has the characters START a END, and a pair of texts a, b has START a END b END. If
    they are longer than `max_length`, the longer text of a pair loses its last characters first.

    Args:
      texts: str [N, 1], or str [N, 2] for pairs.
      max_length: L, more than `special_tokens`.

    Returns:
      The tokens [N, L], and whether each text was truncated, bool [N].
    """
    count, columns = texts.shape
    room = max_length - special_tokens(columns > 1)
    ids, token_type_ids = (np.zeros((count, max_length), np.int32) for _ in range(2))
    lengths, truncated = np.zeros(count, np.int32), np.zeros(count, bool)
    for row, parts in enumerate(texts):
        kept = _truncate([len(part) for part in parts], room)
        marked = [part[:size] + END for part, size in zip(parts, kept, strict=True)]
        characters = START + "".join(marked)
        lengths[row] = len(characters)
        ids[row, : lengths[row]] = code_points(characters)
        token_type_ids[row, len(marked[0]) + 1 : lengths[row]] = 1
        truncated[row] = sum(kept) < sum(map(len, parts))
    return Tokens(ids, token_type_ids, lengths), truncated


def code_points(text: str) -> np.ndarray:
    """Returns the Unicode code points of a text, int32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.int32)


def special_tokens(pairs: bool) -> int:
    """Returns the number of characters that mark the start and the ends of one or two texts."""
    return 3 if pairs else 2


def _truncate(sizes: list[int], room: int) -> list[int]:
    """Returns the sizes to which texts are cut so that together they have at most `room`."""
    if sum(sizes) <= room:
        return sizes
    if len(sizes) == 1:
        return [room]
    shorter = min(*sizes, room // 2)
    first, second = sizes
    return [shorter, room - shorter] if first < second else [room - shorter, shorter]


VOCABULARY = Vocabulary("characters", tokenise)
