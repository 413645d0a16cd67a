"""Tokenisation of texts, and the padded lengths of their batches."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from pydantic import Field

from akd_jax.data.dataset import Examples, Kind
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.host.settings import PositiveInt, Section
from akd_jax.types import Tokens

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer

# Each length is at most 1.5 times the previous one. This limits padding, and only a few shapes of
# a step are compiled.
_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

# Texts that are tokenised at once. The limit saves memory, because each encoding takes some kB.
CHUNK = 4096


class TextOptions(Section):
    """The lengths of texts."""

    max_length: PositiveInt = Field(
        default=128,
        description="Largest length of a text in tokens, at least 3; longer ones are cut off. The"
        " tokens of ngrams are characters.",
    )
    bucketing: bool = Field(
        default=True,
        description="Whether batches hold texts of similar lengths, so that they need less"
        " padding.",
    )


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A tokenisation with a key. Calling it selects its tokens from those of several vocabularies.

    Attributes:
      key: name or digest of the tokenisation; those that give the same tokens have the same key.
      tokenise: maps texts, str [N, columns], and a length L to their tokens [N, L], or a
        tree of `Tokens`, and to whether each text was truncated, bool [N].
      kind: the kind of the columns that it tokenises.
      limit: the number of codes that exist, of letters of a transcript, or of tokens that a network
        has embeddings for; 0 for none.
      label: maps texts and a length L to the tokens to predict, int32 [N, L], for networks that
        generate texts; None for the labels of the data set.
    """

    key: str
    tokenise: Callable[[np.ndarray, int], tuple[Any, np.ndarray]] = dataclasses.field(
        compare=False, repr=False
    )
    kind: Kind = "text"
    limit: int = 0
    label: Callable[[np.ndarray, int], np.ndarray] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    @classmethod
    def of(cls, tokenizer: "Tokenizer") -> "Vocabulary":
        """Returns the vocabulary of a tokenizer; its padding and truncation are disabled."""
        return cls(tokenizer_key(tokenizer), functools.partial(tokenise, tokenizer))

    def __call__(self, inputs: Mapping[str, Any]) -> Any:
        """Returns the tokens of this vocabulary."""
        return inputs[self.key]

    def read(
        self, texts: np.ndarray, kinds: Sequence[Kind], max_lengths: Mapping[Kind, int]
    ) -> tuple[Any, np.ndarray]:
        """Tokenises the columns of its kind.

        Args:
          texts: str [N, columns].
          kinds: the kind of each column; empty if all columns hold texts.
          max_lengths: the largest number of tokens for each kind.

        Returns:
          The tokens [N, L], and whether each text was truncated, bool [N].
        """
        own = [column for column, kind in enumerate(kinds) if kind == self.kind]
        return self.tokenise(texts[:, own] if kinds else texts, max_lengths[self.kind])


class TokenisedSplits(Mapping[str, Examples]):
    """The splits of a data set of texts, tokenised with all vocabularies of a run.

    A split is tokenised when it is accessed, because some commands need only one split or none.

    Args:
      splits: the splits, with texts as inputs.
      vocabularies: the vocabularies of the networks.
      read: maps the name of a split and a vocabulary to tokens [N, L], or a tree of them, and to
        whether each text was truncated [N].
      label: maps the name of a split and a vocabulary to the tokens to predict, or to None if the
        labels are those of the data set.
    """

    def __init__(
        self,
        splits: Mapping[str, Examples],
        vocabularies: Iterable[Vocabulary],
        read: Callable[[str, Vocabulary], tuple[Any, np.ndarray]],
        label: Callable[[str, Vocabulary], np.ndarray | None],
    ):
        self._splits, self._vocabularies = splits, list(vocabularies)
        self._read, self._label = read, label

    def __getitem__(self, name: str) -> Examples:
        split = self._splits[name]
        inputs = {v.key: self._read(name, v)[0] for v in self._vocabularies}
        labels = self._label(name, self._vocabularies[0])
        if labels is None:
            labels = split.labels
        return dataclasses.replace(split, inputs=inputs, labels=labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def truncated(self) -> dict[str, int]:
        """Returns the number of texts in each split that any vocabulary truncates."""
        return {
            name: int(np.any([self._read(name, v)[1] for v in self._vocabularies], axis=0).sum())
            for name in self
        }


def tokenizer_key(tokenizer: "Tokenizer") -> str:
    """Returns a digest of a tokenizer; disables its padding and truncation."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:12]


def load_tokenizer(path: Path, limit: int) -> "Tokenizer":
    """Loads the tokenizer of a side of a data set of pairs.

    Args:
      path: its file.
      limit: the largest number of tokens; 0 for any.

    Raises:
      InputError: the file is missing or damaged, or the tokenizer has too many tokens.
    """
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
    if limit and size > limit:
        raise InputError(
            f"{path}: expected at most {limit} tokens, the vocabulary of the network, got {size};"
            " choose a network with a larger vocabulary"
        )
    return tokenizer


def tokenise(
    tokenizer: "Tokenizer", texts: np.ndarray, max_length: int
) -> tuple[Tokens, np.ndarray]:
    """Tokenises texts, padded or truncated to `max_length`; pairs lose their longer text first.

    Args:
      tokenizer: the tokenizer; its settings of padding and truncation are changed.
      texts: str [N, 1], or str [N, 2] for pairs.
      max_length: L.

    Returns:
      The tokens [N, L], and whether each text was truncated, bool [N].
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    ids, token_type_ids = (np.zeros((len(texts), max_length), np.int32) for _ in range(2))
    lengths, truncated = np.zeros(len(texts), np.int32), np.zeros(len(texts), bool)
    for start in range(0, len(texts), CHUNK):
        part = texts[start : start + CHUNK]
        inputs = [tuple(row) if len(row) > 1 else row[0] for row in part]
        for row, encoding in enumerate(tokenizer.encode_batch(inputs), start=start):
            ids[row, : len(encoding)] = encoding.ids
            token_type_ids[row, : len(encoding)] = encoding.type_ids
            lengths[row], truncated[row] = len(encoding), bool(encoding.overflowing)
    return Tokens(ids, token_type_ids, lengths), truncated


def read(
    vocabularies: Iterable[Vocabulary],
    texts: np.ndarray,
    kinds: Sequence[Kind],
    max_lengths: Mapping[Kind, int],
) -> tuple[dict[str, Any], np.ndarray]:
    """Tokenises texts with several vocabularies; see `Vocabulary.read`.

    Returns:
      The tokens by the key of the vocabulary, and whether any vocabulary truncated a text, [N].
    """
    results = {v.key: v.read(texts, kinds, max_lengths) for v in vocabularies}
    inputs = {key: tokens for key, (tokens, _) in results.items()}
    return inputs, np.any([truncated for _, truncated in results.values()], axis=0)


def bucket_lengths(max_length: int) -> tuple[int, ...]:
    """Returns the padded lengths of batches in increasing order; the last one is `max_length`."""
    return (*(length for length in _LENGTHS if length < max_length), max_length)


def longest(inputs: Any) -> np.ndarray:
    """Returns the largest number of tokens of each text over all vocabularies, [N]."""
    return np.max([tokens.lengths for tokens in _tokens(inputs)], axis=0)


def crop(inputs: Any, length: int) -> Any:
    """Returns the inputs with all tokens truncated to a length."""

    def crop_tokens(tokens: Tokens) -> Tokens:
        return Tokens(
            tokens.ids[:, :length],
            tokens.token_type_ids[:, :length],
            np.minimum(tokens.lengths, length),
        )

    return jax.tree.map(crop_tokens, inputs, is_leaf=_is_tokens)


def _tokens(inputs: Any) -> Sequence[Tokens]:
    return jax.tree.leaves(inputs, is_leaf=_is_tokens)


def _is_tokens(node: Any) -> bool:
    return isinstance(node, Tokens)
