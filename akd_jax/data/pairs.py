"""Pairs of texts, for networks that read each text in a vocabulary of its own."""

import functools
import hashlib
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
    tokenizers = {side: _load(path, limit) for side, path in zip(sides, paths, strict=True)}
    content = "\n".join(tokenizer.to_str() for tokenizer in tokenizers.values())
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    return text.Vocabulary(key, functools.partial(tokenise, tokenizers), limit=limit)


def tokenise(
    tokenizers: Mapping[str, "Tokenizer"], texts: np.ndarray, max_length: int
) -> tuple[dict[str, Tokens], np.ndarray]:
    """Tokenises each text of pairs by itself, padded or truncated to `max_length`.

    Args:
      tokenizers: the tokenizer of each side, in the order of the columns.
      texts: str [N, 2].
      max_length: L.

    Returns:
      The tokens [N, L] by side, and whether either text was truncated, bool [N].
    """
    results = {
        side: text.tokenise(tokenizer, texts[:, column : column + 1], max_length)
        for column, (side, tokenizer) in enumerate(tokenizers.items())
    }
    tokens = {side: side_tokens for side, (side_tokens, _) in results.items()}
    return tokens, np.any([truncated for _, truncated in results.values()], axis=0)


def _load(path: Path, limit: int) -> "Tokenizer":
    """Loads a tokenizer, without padding and truncation."""
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
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
