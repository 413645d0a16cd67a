"""Pairs of texts, for networks that read each text in a different vocabulary."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from akd_jax.data import text
from akd_jax.host.files import Path
from akd_jax.types import Tokens


def vocabulary(paths: Sequence[Path], sides: Sequence[str], limit: int) -> text.Vocabulary:
    """Returns the vocabulary of pairs, whose tokens are a mapping from each side to `Tokens`.

    Args:
      paths: the file of the tokenizer of each text.
      sides: the name of each text.
      limit: the largest number of tokens of a tokenizer.

    Raises:
      InputError: a file is missing or damaged, or a tokenizer has too many tokens.
    """
    vocabularies = {
        side: text.Vocabulary.of(text.load_tokenizer(path, limit))
        for side, path in zip(sides, paths, strict=True)
    }
    key = "-".join(vocabulary.key for vocabulary in vocabularies.values())
    return text.Vocabulary(key, functools.partial(_tokenise, vocabularies), limit=limit)


def _tokenise(
    vocabularies: Mapping[str, text.Vocabulary], texts: np.ndarray, max_length: int
) -> tuple[dict[str, Tokens], np.ndarray]:
    """Tokenises each text of pairs by itself, padded or truncated to `max_length`.

    Args:
      vocabularies: the vocabulary of each side, in the order of the columns.
      texts: str [N, 2].
      max_length: L.

    Returns:
      The tokens [N, L] by side, and whether either text was truncated, bool [N].
    """
    results = {
        side: vocabulary.tokenise(texts[:, column : column + 1], max_length)
        for column, (side, vocabulary) in enumerate(vocabularies.items())
    }
    tokens = {side: side_tokens for side, (side_tokens, _) in results.items()}
    return tokens, np.any([truncated for _, truncated in results.values()], axis=0)
