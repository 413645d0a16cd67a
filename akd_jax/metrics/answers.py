"""Metrics that score each generated text by itself, such as the answers of a stream of tasks.

Hypotheses and references are sequences of N texts, one reference for each hypothesis, as in
`akd_jax.metrics.generation`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from akd_jax.host.errors import require


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns the share of the texts that equal their reference, without spaces at the ends."""
    return float(exact_match_rows(hypotheses, references).mean())


def exact_match_rows(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns 1 for each row whose text equals its reference, and 0 for the others, [N]."""
    rows = zip(*paired(hypotheses, references), strict=True)
    return np.array([float(text.strip() == target.strip()) for text, target in rows])


def phoneme_accuracy_rows(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns 1 - PER of each row, at least 0, [N].

    PER, the phoneme error rate, is the smallest number of characters to insert, to delete or to
    replace, divided by the number of characters of the reference. Spaces at the ends do not count.
    """
    rows = zip(*paired(hypotheses, references), strict=True)
    stripped = [(text.strip(), target.strip()) for text, target in rows]
    errors = [edit_distance(text, target) / max(len(target), 1) for text, target in stripped]
    return np.maximum(0.0, 1.0 - np.array(errors))


def edit_distance(one: str, other: str) -> int:
    """Returns the Levenshtein distance: the fewest characters to insert, delete or replace."""
    before = list(range(len(other) + 1))
    for row, character in enumerate(one, start=1):
        after = [row]
        for column, target in enumerate(other, start=1):
            replaced = before[column - 1] + (character != target)
            after.append(min(before[column] + 1, after[-1] + 1, replaced))
        before = after
    return before[-1]


def sentence_chrf_rows(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns the chrF of each row, from 0 to 1, [N]; see `akd_jax.metrics.generation.chrf`."""
    metric = require("sacrebleu", "text").CHRF()
    rows = zip(*paired(hypotheses, references), strict=True)
    return np.array([metric.sentence_score(text, [target]).score / 100 for text, target in rows])


def rouge_rows(name: str, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns the score of each row, [N], of 'rouge1', 'rouge2' or 'rouge_l'."""
    package_name = "rougeL" if name == "rouge_l" else name
    tokenizer = require("rouge_score.tokenizers", "text").DefaultTokenizer(use_stemmer=True)
    # Without a tokenizer, the scorer makes the same one and logs a line at every call.
    rouge = require("rouge_score.rouge_scorer", "text")
    scorer = rouge.RougeScorer([package_name], tokenizer=tokenizer)
    rows = zip(*paired(hypotheses, references), strict=True)
    return np.array([scorer.score(target, text)[package_name].fmeasure for text, target in rows])


# A function of hypotheses and references that returns the score of each row, [N], by the names of
# `akd_jax.types.GROUP_METRICS`.
ROW_METRICS: Mapping[str, Callable[[Sequence[str], Sequence[str]], np.ndarray]] = {
    "exact_match": exact_match_rows,
    "phoneme_accuracy": phoneme_accuracy_rows,
    "rouge1": functools.partial(rouge_rows, "rouge1"),
    "rouge2": functools.partial(rouge_rows, "rouge2"),
    "rouge_l": functools.partial(rouge_rows, "rouge_l"),
    "sentence_chrf": sentence_chrf_rows,
}


def group_score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    groups: Sequence[str],
    metrics: Mapping[str, str],
) -> float:
    """Returns the mean over groups of examples of the scores of their texts.

    Args:
      hypotheses: N texts.
      references: N texts.
      groups: the name of each row's group.
      metrics: the metric of each group, in ROW_METRICS; groups without rows do not count.
    """
    return float(group_rows(hypotheses, references, groups, metrics).mean())


def group_rows(
    hypotheses: Sequence[str],
    references: Sequence[str],
    groups: Sequence[str],
    metrics: Mapping[str, str],
) -> np.ndarray:
    """Returns a value of each row, [N], whose mean is `group_score`.

    The value is the row's score by the metric of its group, times N / (G n), with n rows in the
    row's group, and G groups that have a metric and rows.

    The arguments are those of `group_score`.
    """
    values, names = np.zeros(len(references)), np.array(groups, object)
    for group, metric in metrics.items():
        rows = np.flatnonzero(names == group).tolist()
        if len(rows):
            chosen = ([texts[row] for row in rows] for texts in (hypotheses, references))
            scores = ROW_METRICS[metric](*chosen)
            values[rows] = scores * len(values) / (len(set(groups) & set(metrics)) * len(rows))
    return values


def paired(
    texts: Sequence[str], references: Sequence[str], name: str = "hypotheses"
) -> tuple[list[str], list[str]]:
    """Returns the texts and their references as lists of equal length.

    Raises:
      ValueError: a single text, no row, or different numbers of rows.
    """
    for rows in (texts, references):
        if isinstance(rows, str):
            raise ValueError(f"expected a list of texts, got the text {rows!r}; put it in a list")
    if len(texts) != len(references):
        raise ValueError(
            f"{name}: expected {len(references)} rows, one for each reference, got {len(texts)};"
            " give a row without an output an empty text"
        )
    if not len(references):
        raise ValueError("references: expected at least one row, got none")
    return list(texts), list(references)
