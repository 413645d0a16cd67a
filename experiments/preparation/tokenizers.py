"""Tokenizers of a small student, which are trained on the texts of a data set."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from absl import logging

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, not_writable, reason, replace_text

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer

VOCABULARY_SIZE = 8_000
SMALLEST = 256  # A token for each byte.
_ENOUGH = 1_000_000  # Tokens, so that each character gets one.

# Letters, with the combining marks and the joiners of zero width that are parts of words in some
# scripts.
_LETTERS = "\\p{L}\\p{M}\u200c\u200d"
# A word, a digit or other characters, each with the space before it; or one more space.
_PIECES = f" ?[{_LETTERS}]+| ?\\p{{N}}| ?[^\\s\\p{{N}}{_LETTERS}]+|\\s"


def train_tokenizers(
    paths: Sequence[Path],
    columns: Iterable[Iterable[str]],
    vocabulary_size: int = VOCABULARY_SIZE,
    special_tokens: Sequence[str] = (),
) -> None:
    """Trains a tokenizer on each column of texts, and saves it.

    An existing file is kept, because the students that were trained with it need it. If the texts
    and the size give another tokenizer now, this is logged.

    Args:
      paths: the file of each tokenizer.
      columns: the texts of each tokenizer; those of one column train the same for all files.
      vocabulary_size: the largest number of tokens of each tokenizer, at least 256.
      special_tokens: the first tokens, which stand for no text, such as that of the end.

    Raises:
      InputError: an existing file is not a tokenizer, a file cannot be written, or the package
        tokenizers is not installed.
    """
    trained = [train(texts, vocabulary_size, special_tokens) for texts in columns]
    if len(trained) == 1:
        trained *= len(paths)
    for path, tokenizer in zip(paths, trained, strict=True):
        save(path, tokenizer)


def save(path: Path, tokenizer: "Tokenizer") -> None:
    """Writes a tokenizer; keeps an existing one, and logs a warning if it is another.

    Raises:
      InputError: an existing file is not a tokenizer, or the file cannot be written.
    """
    existing = _read(path)
    if existing is None:
        try:
            replace_text(path, tokenizer.to_str(pretty=True))
        except OSError as error:
            raise not_writable(path.parent, error) from None
    elif existing.to_str() != tokenizer.to_str():
        logging.warning(
            "%s: the existing tokenizer of %d tokens is used. The texts and the options give"
            " another one of %d tokens now; delete the file to make it again",
            path,
            existing.get_vocab_size(),
            tokenizer.get_vocab_size(),
        )


def vocabulary_sizes(paths: Sequence[Path]) -> list[int]:
    """Returns the numbers of tokens of saved tokenizers."""
    existing = (_read(path) for path in paths)
    return [tokenizer.get_vocab_size() for tokenizer in existing if tokenizer]


def train_on_characters(
    texts: Iterable[str], phrases: Iterable[str], special_tokens: Sequence[str] = ()
) -> "Tokenizer":
    """Trains a tokenizer with a token for each character, and one for each of some phrases.

    A phrase has the space before it. Characters that do not occur in the texts are several tokens,
    one for each byte. Texts are not normalised.

    Args:
      texts: the texts.
      phrases: the phrases.
      special_tokens: the first tokens, which stand for no text.
    """
    library = require("tokenizers", "text")
    tokenizer = library.Tokenizer(library.models.BPE())
    pieces = [f" ?{re.escape(phrase)}" for phrase in sorted(set(phrases), reverse=True)]
    tokenizer.pre_tokenizer = _split_into("|".join([*pieces, r"[\s\S]"]))
    tokenizer.decoder = library.decoders.ByteLevel()
    return _train_bytes(tokenizer, texts, special_tokens, vocabulary_size=_ENOUGH, min_frequency=1)


def train(
    texts: Iterable[str], vocabulary_size: int, special_tokens: Sequence[str] = ()
) -> "Tokenizer":
    """Trains a tokenizer by byte-pair encoding (BPE); the same texts give the same tokenizer.

    Its tokens are sequences of bytes, so that no character of any script is unknown. Texts are
    normalised by Unicode's NFKC. Words at the start of a text have the same tokens as others. The
    tokenizer adds no token at the start or at the end of a text.

    Source: Sennrich, Haddow and Birch, 2016, https://arxiv.org/abs/1508.07909.

    Args:
      texts: the texts.
      vocabulary_size: the largest number of tokens. With few texts there are fewer, because a pair
        of tokens that occurs only once is not merged.
      special_tokens: the first tokens, which stand for no text.
    """
    library = require("tokenizers", "text")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.normalizer = library.normalizers.Sequence(
        [library.normalizers.NFKC(), library.normalizers.Prepend(" ")]
    )
    tokenizer.pre_tokenizer = _split_into(_PIECES)
    tokenizer.decoder = library.decoders.Sequence(
        [library.decoders.ByteLevel(), library.decoders.Strip(" ", 1, 0)]
    )
    return _train_bytes(
        tokenizer, texts, special_tokens, vocabulary_size=vocabulary_size, min_frequency=2
    )


def _split_into(pieces: str) -> Any:
    """Returns the pre-tokenizer that splits texts into pieces, and these into bytes."""
    library = require("tokenizers.pre_tokenizers", "text")
    regex = require("tokenizers", "text").Regex(pieces)
    return library.Sequence(
        [
            library.Split(regex, "isolated"),
            library.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _train_bytes(
    tokenizer: "Tokenizer",
    texts: Iterable[str],
    special_tokens: Sequence[str],
    *,
    vocabulary_size: int,
    min_frequency: int,
) -> "Tokenizer":
    """Trains a tokenizer whose first tokens are the special ones and one for each byte."""
    library = require("tokenizers", "text")
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_frequency,
        show_progress=False,
        special_tokens=list(special_tokens),
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _read(path: Path) -> "Tokenizer | None":
    """Reads a tokenizer; returns None if there is no file."""
    if not path.exists():
        return None
    try:
        return require("tokenizers", "text").Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except InputError:
        raise
    except Exception as error:  # tokenizers raises plain exceptions.
        raise InputError(
            f"{path}: expected a tokenizer, got: {reason(error)}; delete the file"
        ) from None
