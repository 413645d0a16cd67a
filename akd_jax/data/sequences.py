"""Pairs of a source and a target, for networks that generate the target token by token.

A network reads the source and the beginning of the target, its context, and predicts the next
token at each position:

    source    w_1 ... w_n end
    context   start v_1 ... v_m
    labels    v_1 ... v_m end
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from akd_jax.data import completions, text
from akd_jax.data.dataset import Examples
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import SOURCE, TARGET, UNLABELLED, TargetVocabulary, Tokens

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer

PAD, START, END = "<pad>", "<s>", "</s>"
SPECIAL_TOKENS = (PAD, START, END)
ANSWER = "<answer>"  # The start token of a stream of tasks.
_ENDS = (END, "<|endoftext|>")  # The second one is GPT-2's.
_STARTS = (ANSWER, START)
_TASK = re.compile("<task:(.+)>")


def task_token(name: str) -> str:
    """Returns the token of a task of a stream."""
    return f"<task:{name}>"


def target_vocabulary(paths: Sequence[Path]) -> TargetVocabulary:
    """Returns the tokens of the targets.

    Without a token <answer> or <s>, padding is the token before the first word, as in Marian's
    models. The tasks are those that have a token, see `task_token`.

    Args:
      paths: the files of the tokenizers of sources and targets.

    Raises:
      InputError: a file is missing or damaged, or a tokenizer has no <pad> or no </s>.
    """
    source, target = (text.load_tokenizer(path, 0) for path in paths)
    return _target(source, target, paths[1])


def vocabulary(paths: Sequence[Path], limit: int) -> text.Vocabulary:
    """Returns the vocabulary of pairs, whose tokens are a mapping from SOURCE and TARGET.

    Args:
      paths: the files of the tokenizers of sources and targets.
      limit: the largest number of tokens of a tokenizer; 0 for any.

    Raises:
      InputError: see `target_vocabulary`, or a tokenizer has too many tokens.
    """
    tokenizers = [text.load_tokenizer(path, limit) for path in paths]
    return of_tokenizers(*tokenizers, names=[str(path) for path in paths], limit=limit)


def of_tokenizers(
    source: "Tokenizer", target: "Tokenizer", *, names: Sequence[str], limit: int = 0
) -> text.Vocabulary:
    """Returns the vocabulary of pairs of two tokenizers; `names` are those of messages."""
    end = _special_token(source, _ENDS, names[0])
    targets = _target(source, target, names[1])
    for tokenizer in (source, target):
        tokenizer.encode_special_tokens = True  # A text may contain '</s>', for example.
    return text.Vocabulary(
        targets.key,
        functools.partial(_tokenise, source, target, end, targets.start),
        limit=limit,
        label=functools.partial(_label, target, targets.end),
    )


def unlabelled(texts: np.ndarray) -> Examples:
    """Returns texts [N, columns] as examples, whose labels each network's vocabulary makes."""
    return Examples(texts, np.full(len(texts), UNLABELLED, np.int32))


def without_end(examples: Examples, cut: np.ndarray, end: int) -> Examples:
    """Returns examples in which texts that were cut before their end have no end to learn.

    Args:
      examples: the examples, with labels [N, L].
      cut: whether the text of each was cut, bool [N].
      end: the id of the end token.
    """
    labels = np.where(cut[:, None] & (examples.labels == end), UNLABELLED, examples.labels)
    return dataclasses.replace(examples, labels=labels)


def next_tokens(words: Sequence[Sequence[int]], end: int, length: int) -> np.ndarray:
    """Returns the tokens to predict at each position, int32 [N, L]; UNLABELLED after the end.

    Args:
      words: the tokens of each target, without start and end.
      end: the id of the end token.
      length: L. Of a longer target, the first L words are predicted, and no end.
    """
    labels = np.full((len(words), length), UNLABELLED, np.int32)
    for row, sequence in enumerate(words):
        predicted = [*sequence, end][:length]
        labels[row, : len(predicted)] = predicted
    return labels


def contexts(words: Sequence[Sequence[int]], start: int, length: int) -> Tokens:
    """Returns the contexts [N, L] of targets: the start token and the words that fit.

    Args:
      words: the tokens of each target, without start and end.
      start: the id of the start token.
      length: L.
    """
    return _pad([[start, *sequence][:length] for sequence in words], length)


def _tokenise(
    source: "Tokenizer",
    target: "Tokenizer",
    end: int,
    start: int,
    texts: np.ndarray,
    max_length: int,
) -> tuple[dict[str, Tokens], np.ndarray]:
    """Returns the tokens of texts [N, columns] by side, and whether either was truncated, [N].

    The last column is the target, and the others are the source.
    """
    sources = completions.encode(source, completions.prompts(texts))
    targets = completions.encode(target, texts[:, -1].tolist())
    # The end of a source stays, because the network may rely on it.
    read = _pad([[*words[: max_length - 1], end] for words in sources], max_length)
    truncated = [
        max(len(a), len(b)) > max_length - 1 for a, b in zip(sources, targets, strict=True)
    ]
    return {SOURCE: read, TARGET: contexts(targets, start, max_length)}, np.array(truncated)


def _label(target: "Tokenizer", end: int, texts: np.ndarray, max_length: int) -> np.ndarray:
    return next_tokens(completions.encode(target, texts[:, -1].tolist()), end, max_length)


def _pad(rows: Sequence[Sequence[int]], length: int) -> Tokens:
    """Returns sequences of at most L tokens as `Tokens` [N, L]."""
    ids = np.zeros((len(rows), length), np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return Tokens(ids, np.zeros_like(ids), np.array([len(row) for row in rows], np.int32))


def _target(source: "Tokenizer", tokenizer: "Tokenizer", name: Path | str) -> TargetVocabulary:
    pad, end = _special_token(tokenizer, (PAD,), name), _special_token(tokenizer, _ENDS, name)
    starts = [token for token in map(tokenizer.token_to_id, _STARTS) if token is not None]
    added = tokenizer.get_added_tokens_decoder()
    tasks = {token: _TASK.fullmatch(added[token].content) for token in sorted(added)}
    return TargetVocabulary(
        f"{text.tokenizer_key(source)}-{text.tokenizer_key(tokenizer)}",
        tokenizer.get_vocab_size(),
        start=starts[0] if starts else pad,
        end=end,
        pad=pad,
        tasks=tuple((match[1], token) for token, match in tasks.items() if match),
        decode=tokenizer.decode_batch,
    )


def _special_token(tokenizer: "Tokenizer", tokens: Sequence[str], name: Path | str) -> int:
    """Returns the id of the first of the tokens that a tokenizer has."""
    for number in map(tokenizer.token_to_id, tokens):
        if number is not None:
            return number
    raise InputError(
        f"{name}: expected a tokenizer with the token {tokens[0]}, got one without it; run"
        " experiments.prepare on the data set, or add the token"
    )
