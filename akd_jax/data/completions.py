"""Prompts and their completions as one text, for networks that continue texts, such as GPT-2.

A row has the tokens of the prompt, a start token and those of the completion. The labels are the
next tokens, from the start token on:

    ids      p_1 ... p_n  start  v_1 ... v_m
    labels    -  ...  -    v_1   v_2 ... end
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from akd_jax.data import text
from akd_jax.types import COMPLETION, PROMPT, UNLABELLED, TargetVocabulary, Tokens

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer


def vocabulary(tokenizer: "Tokenizer", target: TargetVocabulary) -> text.Vocabulary:
    """Returns the vocabulary of texts that are continued.

    The last column of a text is the completion; the others are the prompt, with spaces between
    them. If a text is too long, the start of the prompt is removed until the text fits or the
    prompt has a quarter of all tokens; then the end of the completion is removed.

    Args:
      tokenizer: the tokenizer of all columns.
      target: its special tokens.
    """
    tokenizer.encode_special_tokens = True  # A text may contain '</s>', for example.
    return text.Vocabulary(
        f"{target.key}-completions",
        functools.partial(_tokenise, tokenizer, target.start),
        label=functools.partial(_label, tokenizer, target),
    )


def prompts(texts: np.ndarray) -> list[str]:
    """Returns the prompts of texts [N, columns]: all columns but the last one, with spaces."""
    return [" ".join(filter(None, row)) for row in texts[:, :-1].tolist()]


def encode(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Returns the tokens of texts, without special tokens."""
    ids: list[list[int]] = []
    for start in range(0, len(texts), text.CHUNK):
        part = list(texts[start : start + text.CHUNK])
        encodings = tokenizer.encode_batch_fast(part, add_special_tokens=False)
        ids += [encoding.ids for encoding in encodings]
    return ids


def language_rows(
    rows: Tokens, target: TargetVocabulary, starts: np.ndarray
) -> tuple[Tokens, np.ndarray]:
    """Returns the texts as completions of an empty prompt, so that all their tokens are learnt.

    Args:
      rows: prompts and completions, [N, L].
      target: the special tokens.
      starts: the first token of each row, such as that of its task, int32 [N]. The start token of
        a row becomes one of its words.

    Returns:
      The rows [N, L], and their labels int32 [N, L]. A row that is one token too long loses its
      last one.
    """
    ids, lengths = np.asarray(rows.ids), np.asarray(rows.lengths)
    count, length = ids.shape
    words = np.zeros((count, length + 1), np.int32)
    words[:, 0], words[:, 1:] = starts, ids
    positions = np.arange(length)
    labels = np.where(positions < lengths[:, None], ids, UNLABELLED)
    labels = np.where(positions == lengths[:, None], target.end, labels).astype(np.int32)
    lengths = np.minimum(lengths + 1, length).astype(np.int32)
    words = np.where(positions < lengths[:, None], words[:, :length], 0).astype(np.int32)
    return Tokens(words, np.full_like(words, COMPLETION), lengths), labels


def _split(
    tokenizer: "Tokenizer", texts: np.ndarray, max_length: int
) -> list[tuple[list[int], list[int], bool]]:
    """Returns the prompt of each text as it fits, the completion, and whether they are too long."""
    pairs = zip(
        encode(tokenizer, prompts(texts)), encode(tokenizer, texts[:, -1].tolist()), strict=True
    )
    rows = []
    for prompt, completion in pairs:
        room = max(max_length - 1 - len(completion), max_length // 4)
        rows.append(
            (
                prompt[max(0, len(prompt) - room) :],
                completion,
                len(prompt) + 1 + len(completion) > max_length,
            )
        )
    return rows


def _tokenise(
    tokenizer: "Tokenizer", start: int, texts: np.ndarray, max_length: int
) -> tuple[Tokens, np.ndarray]:
    """Tokenises texts [N, columns]; returns them, and whether each was truncated [N]."""
    ids = np.zeros((len(texts), max_length), np.int32)
    types, lengths = np.full_like(ids, PROMPT), np.zeros(len(texts), np.int32)
    truncated = np.zeros(len(texts), bool)
    for number, (prompt, completion, cut) in enumerate(_split(tokenizer, texts, max_length)):
        row = [*prompt, start, *completion][:max_length]
        ids[number, : len(row)], lengths[number], truncated[number] = row, len(row), cut
        types[number, len(prompt) : len(row)] = COMPLETION
    return Tokens(ids, types, lengths), truncated


def _label(
    tokenizer: "Tokenizer", target: TargetVocabulary, texts: np.ndarray, max_length: int
) -> np.ndarray:
    labels = np.full((len(texts), max_length), UNLABELLED, np.int32)
    for number, (prompt, completion, _) in enumerate(_split(tokenizer, texts, max_length)):
        predicted = [*completion, target.end][: max_length - len(prompt)]
        labels[number, len(prompt) : len(prompt) + len(predicted)] = predicted
    return labels
