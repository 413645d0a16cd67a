"""Pairs of texts, for networks that read each text in a vocabulary of its own."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from akd_jax.data import text
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.types import Tokens

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer


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
        side: text.Vocabulary.of(_load(path, limit))
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


def _load(path: Path, limit: int) -> "Tokenizer":
    """Loads a tokenizer of at most `limit` tokens."""
    tokenizers = require("tokenizers", "text")
    if not path.exists():
        raise InputError(
            f"{path}: expected a tokenizer of the data set, got no file; run experiments.prepare"
            " with --dataset and --data_dir"
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises plain Exception.
        raise InputError(
            f"{path}: expected a tokenizer, got a damaged one: {error}; delete it and run"
            " experiments.prepare again"
        ) from None
    size = tokenizer.get_vocab_size()
    if size > limit:
        raise InputError(
            f"{path}: expected at most {limit} tokens, the vocabulary of the network, got {size};"
            " choose birnn:VOCABULARY,EMBEDDINGxWIDTH with a larger vocabulary"
        )
    return tokenizer
