"""Texts as tokens, and lengths to which their batches are filled up."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer

from akd_jax.types import Tokens

# Filled up to these lengths (and the longest one), texts waste little, and steps of few shapes
# are compiled. Steps of a half or a third, so that no text grows by more than that.
_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Selects, among the tokens that different vocabularies make of a text, those of one.

    Attributes:
      key: of the vocabulary.
    """

    key: str

    def __call__(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """The tokens of this vocabulary."""
        return inputs[self.key]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads texts with the tokenizers of all networks of a run.

    Attributes:
      tokenizers: by the key of their vocabulary.
      max_length: the most tokens of a text; of a longer one, or pair, the end is cut off.
    """

    tokenizers: Mapping[str, Tokenizer]
    max_length: int

    def __call__(self, texts: np.ndarray) -> tuple[dict[str, Tokens], int]:
        """Reads texts [N, 1], or pairs of them [N, 2].

        Returns:
          For each vocabulary the tokens [N, max_length], and how many texts were cut.
        """
        found = {
            key: tokenise(tokenizer, texts, self.max_length)
            for key, tokenizer in self.tokenizers.items()
        }
        cut = np.any([cut for _, cut in found.values()], axis=0)
        return {key: tokens for key, (tokens, _) in found.items()}, int(np.sum(cut))


def tokenise(tokenizer: Tokenizer, texts: np.ndarray, max_length: int) -> tuple[Tokens, np.ndarray]:
    """Texts [N, 1], or pairs [N, 2], to tokens [N, max_length], and whether each was cut [N]."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)  # Of a pair, the longer one is cut first.
    inputs = [tuple(row) if len(row) > 1 else row[0] for row in texts]
    encodings = tokenizer.encode_batch(inputs)
    ids, types = (np.zeros((len(inputs), max_length), np.int32) for _ in range(2))
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding)] = encoding.ids
        types[row, : len(encoding)] = encoding.type_ids
    lengths = np.array([len(encoding) for encoding in encodings], np.int32)
    cut = np.array([bool(encoding.overflowing) for encoding in encodings], bool)
    return Tokens(ids, types, lengths), cut


def bucket_lengths(max_length: int) -> tuple[int, ...]:
    """The lengths that batches are filled up to; the last one is `max_length`."""
    return (*(length for length in _LENGTHS if length < max_length), max_length)


def longest(inputs: Any) -> np.ndarray:
    """The most tokens that any vocabulary makes of each text, [N]."""
    return np.max([tokens.lengths for tokens in _tokens(inputs)], axis=0)


def crop(inputs: Any, length: int) -> Any:
    """The inputs without what is beyond a length."""

    def cropped(tokens: Tokens) -> Tokens:
        return Tokens(
            tokens.ids[:, :length], tokens.types[:, :length], np.minimum(tokens.lengths, length)
        )

    return jax.tree.map(cropped, inputs, is_leaf=_is_tokens)


def _tokens(inputs: Any) -> Sequence[Tokens]:
    return jax.tree.leaves(inputs, is_leaf=_is_tokens)


def _is_tokens(node: Any) -> bool:
    return isinstance(node, Tokens)
