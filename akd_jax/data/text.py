"""Texts as tokens, and lengths to which their batches are filled up."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer

from akd_jax.data.dataset import Examples
from akd_jax.types import Tokens

# Filled up to these lengths (and the longest one), texts waste little, and steps of few shapes
# are compiled. Steps of a half or a third, so that no text grows by more than that.
_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

_CHUNK = 4096  # Texts tokenised at once: their tokens as objects take some kB each.


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary; called, it selects its tokens among those that several make of a text.

    Attributes:
      key: stands for all that the tokenizer does.
      tokenizer: texts to tokens.
    """

    key: str
    tokenizer: Tokenizer = dataclasses.field(compare=False, repr=False)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """That of a tokenizer, whatever length it cuts or fills up texts to."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:12], tokenizer)

    def __call__(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """The tokens of this vocabulary."""
        return inputs[self.key]


class TokenisedSplits(Mapping[str, Examples]):
    """The splits of a data set with texts as tokens, of all vocabularies of a run.

    A split is read when it is first asked for: who predicts needs none of them.

    Args:
      splits: with texts.
      vocabularies: of the networks.
      read: the tokens of a split, by its name and a vocabulary, and which texts were cut.
    """

    def __init__(
        self,
        splits: Mapping[str, Examples],
        vocabularies: Iterable[Vocabulary],
        read: Callable[[str, Vocabulary], tuple[Tokens, np.ndarray]],
    ):
        self._splits, self._vocabularies, self._read = splits, list(vocabularies), read

    def __getitem__(self, name: str) -> Examples:
        labels = self._splits[name].labels
        return Examples({v.key: self._read(name, v)[0] for v in self._vocabularies}, labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def truncated(self) -> dict[str, int]:
        """How many texts of each split were cut, by any vocabulary."""
        return {
            name: int(np.any([self._read(name, v)[1] for v in self._vocabularies], axis=0).sum())
            for name in self
        }


def tokenise(tokenizer: Tokenizer, texts: np.ndarray, max_length: int) -> tuple[Tokens, np.ndarray]:
    """Texts [N, 1], or pairs [N, 2], to tokens [N, max_length], and whether each was cut [N]."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)  # Of a pair, the longer one is cut first.
    ids, types = (np.zeros((len(texts), max_length), np.int32) for _ in range(2))
    lengths, cut = np.zeros(len(texts), np.int32), np.zeros(len(texts), bool)
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        inputs = [tuple(row) if len(row) > 1 else row[0] for row in part]
        for row, encoding in enumerate(tokenizer.encode_batch(inputs), start=start):
            ids[row, : len(encoding)] = encoding.ids
            types[row, : len(encoding)] = encoding.type_ids
            lengths[row], cut[row] = len(encoding), bool(encoding.overflowing)
    return Tokens(ids, types, lengths), cut


def read(
    vocabularies: Iterable[Vocabulary], texts: np.ndarray, max_length: int
) -> tuple[dict[str, Tokens], np.ndarray]:
    """As `tokenise`, the tokens of each vocabulary, and whether any of them cut a text [N]."""
    found = {v.key: tokenise(v.tokenizer, texts, max_length) for v in vocabularies}
    inputs = {key: tokens for key, (tokens, _) in found.items()}
    return inputs, np.any([cut for _, cut in found.values()], axis=0)


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
            tokens.ids[:, :length],
            tokens.token_type_ids[:, :length],
            np.minimum(tokens.lengths, length),
        )

    return jax.tree.map(cropped, inputs, is_leaf=_is_tokens)


def _tokens(inputs: Any) -> Sequence[Tokens]:
    return jax.tree.leaves(inputs, is_leaf=_is_tokens)


def _is_tokens(node: Any) -> bool:
    return isinstance(node, Tokens)
