"""Discrete codes of speech, as tokens.

A recording is a sequence of codes, one per frame: numbers such as '17' of a codebook from k-means,
or pairs such as '17-205' of the two groups of vq-wav2vec. They are written in one string, with
spaces between them.
"""

import functools

import numpy as np
from pydantic import Field

from akd_jax.data.text import Vocabulary
from akd_jax.host.errors import InputError
from akd_jax.host.settings import PositiveInt, Section
from akd_jax.types import Tokens

# The tokens before the first code: the start of a recording, padding, and a masked code.
START, PADDING, MASK, FIRST_CODE = range(4)

GROUP = 320  # The number of codes of a group of vq-wav2vec.


class SpeechOptions(Section):
    """The lengths of recordings."""

    max_codes: PositiveInt = Field(
        default=192,
        description="Largest length of a recording in tokens, at least 2: a start and its codes;"
        " longer ones are cut off.",
    )


def parse(words: str, codes: int) -> np.ndarray:
    """Returns the codes of a recording, int32 [T].

    Args:
      words: the codes with spaces between them: numbers, or pairs I-J, which become 320 I + J.
      codes: the number of codes that exist.

    Raises:
      InputError: there is no code, or one that does not exist.
    """
    numbers = np.array([_parse_code(word, codes) for word in words.split()], np.int32)
    if not len(numbers):
        raise InputError("expected the codes of a recording, got none; remove the recording")
    return numbers


def tokenise(texts: np.ndarray, max_length: int, *, codes: int) -> tuple[Tokens, np.ndarray]:
    """Converts recordings to tokens: `START`, and `FIRST_CODE` + each code, padded to a length.

    Args:
      texts: the codes of each recording as a string, [N, 1].
      max_length: L, at least 2.
      codes: the number of codes that exist.

    Returns:
      The tokens [N, L], and whether each recording was truncated, bool [N].

    Raises:
      InputError: a recording has no code, or one that does not exist.
    """
    ids = np.full((len(texts), max_length), PADDING, np.int32)
    ids[:, 0] = START
    lengths, truncated = np.zeros(len(texts), np.int32), np.zeros(len(texts), bool)
    for row, (words,) in enumerate(texts):
        numbers = parse(words, codes)
        kept = numbers[: max_length - 1]
        ids[row, 1 : len(kept) + 1] = FIRST_CODE + kept
        lengths[row], truncated[row] = len(kept) + 1, len(kept) < len(numbers)
    return Tokens(ids, np.zeros_like(ids), lengths), truncated


def vocabulary(codes: int) -> Vocabulary:
    """Returns the tokenisation of recordings for a network with this number of codes."""
    return Vocabulary("codes", functools.partial(tokenise, codes=codes), "codes", codes)


def _parse_code(word: str, codes: int) -> int:
    try:
        first, *second = (int(part) for part in word.split("-"))
        code = GROUP * first + second[0] if second else first
        is_valid = len(second) < 2 and 0 <= code < codes and (not second or second[0] < GROUP)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InputError(
            f"expected codes from 0 to {codes - 1}, or pairs such as 17-205 below {codes} ="
            f" {GROUP} I + J, got {word!r}; give a network with more codes, or make the codes again"
        )
    return code
