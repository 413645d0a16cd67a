"""Metrics of generated texts over a whole split.

Every row counts: a row without an output has an empty text. Hypotheses and references are sequences
of N texts, one reference for each hypothesis. The functions raise a ValueError if there is no row,
or if the numbers of rows differ. They import sacreBLEU and rouge-score on first use, and raise an
`InputError` if the package is not installed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from akd_jax.host.errors import require
from akd_jax.metrics import answers

ORDERS = 4  # BLEU counts n-grams of 1 to 4 tokens.
_CHARS = 6  # chrF counts n-grams of 1 to 6 characters.


class Part(NamedTuple):
    """The rows of a part of a split, and their corpus BLEU, which is None without rows."""

    rows: int
    bleu: float | None


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns sacreBLEU's corpus BLEU, from 0 to 1: detokenised text, 13a tokens, case-sensitive.

    With p_n the share of the hypotheses' n-grams that are in the row's reference, and c and r the
    numbers of tokens of all hypotheses and all references,

        BLEU = min(1, exp(1 - r / c)) (p_1 p_2 p_3 p_4)^(1/4)

    The k-th p_n without a match has 1 / 2^k matches instead of none ("exp" smoothing). BLEU is 0 if
    no token matches, or if no hypothesis has 4 tokens.

    Source: Papineni et al., ACL 2002, https://aclanthology.org/P02-1040; Post, WMT 2018,
    https://aclanthology.org/W18-6319.
    """
    return _corpus_score("BLEU", hypotheses, references).score / 100


def bleu_signature() -> str:
    """Returns sacreBLEU's description of `bleu`, with its version, for tables and records."""
    return _signature("BLEU")


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns sacreBLEU's corpus chrF, from 0 to 1.

    With P and R the precision and recall of the split's n-grams of characters without spaces, as
    means over n = 1 to 6,

        chrF = 5 P R / (4 P + R)

    Source: Popović, WMT 2015, https://aclanthology.org/W15-3049.
    """
    return _corpus_score("CHRF", hypotheses, references).score / 100


def chrf_signature() -> str:
    """Returns sacreBLEU's description of `chrf`, with its version, for tables and records."""
    return _signature("CHRF")


def rouge1(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns the mean over rows of ROUGE-1: the F1 score of the words that match.

    Words are lower-cased and stemmed by Porter's algorithm. The package keeps only the letters a to
    z and digits, so that the scores are meaningful for English only.

    Source: Lin, 2004, https://aclanthology.org/W04-1013.
    """
    return float(answers.rouge_rows("rouge1", hypotheses, references).mean())


def rouge2(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns the mean over rows of ROUGE-2: like `rouge1`, of pairs of adjacent words."""
    return float(answers.rouge_rows("rouge2", hypotheses, references).mean())


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns the mean over rows of ROUGE-L: like `rouge1`, of the longest common subsequence."""
    return float(answers.rouge_rows("rouge_l", hypotheses, references).mean())


def length_ratio(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns the tokens of all hypotheses divided by those of all references, counted by `bleu`.

    It is 0 if the references have no token.
    """
    return float(_corpus_score("BLEU", hypotheses, references).ratio)


# Metric name to a function of hypotheses and references.
TEXT_METRICS: Mapping[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "bleu": bleu,
    "chrf": chrf,
    "exact_match": answers.exact_match,
    "rouge1": rouge1,
    "rouge2": rouge2,
    "rouge_l": rouge_l,
}


def scores(
    hypotheses: Sequence[str], references: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    """Returns metrics of TEXT_METRICS by name."""
    return {name: TEXT_METRICS[name](hypotheses, references) for name in names}


def bleu_by_source_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    edges: Sequence[int] = (8, 15, 30),
) -> dict[str, Part]:
    """Returns the corpus BLEU of the rows with short, longer and long sources.

    Args:
      hypotheses: N texts.
      references: N texts.
      sources: N texts, whose words, separated by spaces, are counted.
      edges: the largest number of words in each part but the last; in ascending order.

    Returns:
      The parts by their numbers of words, the shortest first. The default edges give '0-8', '9-15',
      '16-30' and '31-'. Every row is in one part.

    Raises:
      ValueError: the numbers of rows differ, or the edges do not ascend.
    """
    if list(edges) != sorted(set(edges)) or min(edges, default=0) < 0:
        raise ValueError(f"edges: expected ascending numbers of words, got {list(edges)}")
    hypotheses, references = answers.paired(hypotheses, references)
    answers.paired(sources, references, name="sources")
    part_of_row = np.searchsorted(edges, [len(source.split()) for source in sources])
    names = [
        f"{low}-{high}"
        for low, high in zip([0, *(edge + 1 for edge in edges)], [*edges, ""], strict=True)
    ]
    parts = {}
    for index, name in enumerate(names):
        rows = np.flatnonzero(part_of_row == index)
        chosen = [hypotheses[row] for row in rows], [references[row] for row in rows]
        parts[name] = Part(len(rows), bleu(*chosen) if len(rows) else None)
    return parts


def closest(texts: Sequence[str], reference: str) -> int:
    """Returns the number of the text with the largest sentence BLEU; the first of equal ones.

    N-grams of an order without a match count as half a match, a quarter, and so on, so that short
    texts have different scores.
    """
    metric = require("sacrebleu", "text").BLEU(effective_order=True)
    return int(np.argmax([metric.sentence_score(text, [reference]).score for text in texts]))


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns what BLEU counts in each row; the sum over rows determines their corpus BLEU.

    Returns:
      int64 [N, 10]: the tokens of the hypothesis and of the reference, the numbers of n-grams of
      the hypothesis that match, for n = 1 to 4, and all its n-grams, for n = 1 to 4.
    """
    # The effective order only changes the score of a row, and its absence gives a warning.
    metric = require("sacrebleu", "text").BLEU(effective_order=True)
    scores = [
        metric.sentence_score(hypothesis, [reference])
        for hypothesis, reference in zip(*answers.paired(hypotheses, references), strict=True)
    ]
    return np.array(
        [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores], np.int64
    )


def bleu_of_counts(counts: np.ndarray) -> float:
    """Returns the corpus BLEU, from 0 to 1, of a sum [10] of rows of `bleu_counts`."""
    hypothesis_tokens, reference_tokens, *ngrams = (int(count) for count in counts)
    score = require("sacrebleu", "text").BLEU.compute_bleu(
        correct=ngrams[:ORDERS],
        total=ngrams[ORDERS:],
        sys_len=hypothesis_tokens,
        ref_len=reference_tokens,
        smooth_method="exp",
    )
    return score.score / 100


def chrf_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns what chrF counts in each row; the sum over rows determines their corpus chrF.

    Returns:
      int64 [N, 18]: for n = 1 to 6 the numbers of n-grams of the hypothesis, of n-grams of the
      reference, and of those that match; of characters without spaces. The first of the three is 0
      if the reference has no n-gram.
    """
    ngrams = require("sacrebleu.metrics.helpers", "text").extract_all_char_ngrams

    def count(hypothesis: Counter[str], reference: Counter[str]) -> list[int]:
        counted = hypothesis.total() if reference else 0
        return [counted, reference.total(), (hypothesis & reference).total()]

    return np.array(
        [
            [count(*pair) for pair in zip(ngrams(one, _CHARS), ngrams(other, _CHARS), strict=True)]
            for one, other in zip(*answers.paired(hypotheses, references), strict=True)
        ],
        np.int64,
    ).reshape(-1, 3 * _CHARS)


def chrf_of_counts(counts: np.ndarray) -> float:
    """Returns the corpus chrF, from 0 to 1, of a sum [18] of rows of `chrf_counts`.

    Lengths of n-grams that the hypotheses or the references do not have are left out.
    """
    by_length = counts.reshape(_CHARS, 3)
    of_hypotheses, of_references, matches = by_length[(by_length[:, :2] > 0).all(axis=1)].T
    if not matches.any():
        return 0.0
    precision, recall = (matches / of_hypotheses).mean(), (matches / of_references).mean()
    return float(5 * precision * recall / (4 * precision + recall))


# Metrics of a corpus: what they count in each row, and the score of a sum of rows.
COUNTED: Mapping[str, tuple[Callable[..., np.ndarray], Callable[[np.ndarray], float]]] = {
    "bleu": (bleu_counts, bleu_of_counts),
    "chrf": (chrf_counts, chrf_of_counts),
}


def _corpus_score(metric: str, hypotheses: Sequence[str], references: Sequence[str]) -> Any:
    """Returns the score object of a metric of sacreBLEU with its default options."""
    hypotheses, references = answers.paired(hypotheses, references)
    return getattr(require("sacrebleu", "text"), metric)().corpus_score(hypotheses, [references])


def _signature(metric: str) -> str:
    """Returns the signature of a metric of sacreBLEU, for one reference per row."""
    signature = getattr(require("sacrebleu", "text"), metric)(references=[[""]]).get_signature()
    return str(signature.format())
