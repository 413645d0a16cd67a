"""Transcripts as letters, the labels of connectionist temporal classification (CTC)."""

import functools

import numpy as np

from akd_jax.data.text import Vocabulary
from akd_jax.types import Tokens

# The label 0 is CTC's blank. The others are the positions in this string, counted from 1.
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
LABELS = len(ALPHABET) + 1


def tokenise(texts: np.ndarray, max_length: int, *, letters: int) -> tuple[Tokens, np.ndarray]:
    """Converts transcripts to the numbers of their letters, padded to a length.

    Upper-case letters become lower-case ones. Characters outside of `ALPHABET` count as spaces, and
    neighbouring spaces as one.

    Args:
      texts: str [N, 1].
      max_length: ignored; `letters` is the length.
      letters: L, the largest number of letters.

    Returns:
      The letters [N, L], and whether each text was truncated, bool [N].
    """
    del max_length
    numbers = {letter: number for number, letter in enumerate(ALPHABET, start=1)}
    ids = np.zeros((len(texts), letters), np.int32)
    lengths, truncated = np.zeros(len(texts), np.int32), np.zeros(len(texts), bool)
    for row, (text,) in enumerate(texts):
        known = "".join(x if x in numbers else " " for x in text.lower())
        labels = [numbers[x] for x in " ".join(known.split())]
        lengths[row] = min(len(labels), letters)
        ids[row, : lengths[row]] = labels[:letters]
        truncated[row] = len(labels) > letters
    return Tokens(ids, np.zeros_like(ids), lengths), truncated


def vocabulary(letters: int) -> Vocabulary:
    """Returns the tokenisation of transcripts into at most this number of letters."""
    return Vocabulary("letters", functools.partial(tokenise, letters=letters), limit=letters)
