"""Statistics of a comparison: pure functions of logits and labels, or of generated texts."""

from collections.abc import Callable, Sequence

import numpy as np

from akd_jax import metrics
from akd_jax.host.errors import require
from akd_jax.metrics import answers, generation
from akd_jax.types import Task


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 1.0 where the largest of the logits [..., C] is the label's, and 0.0 elsewhere."""
    return (logits.argmax(axis=-1) == labels).astype(np.float64)


def agreement(student_logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """Returns the share of examples to which student and teacher assign the same class."""
    return float(np.mean(student_logits.argmax(axis=-1) == teacher_logits.argmax(axis=-1)))


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns the expected calibration error: sum_b n_b / N |accuracy_b - confidence_b|.

    The confidence of a prediction is its largest softmax output. Bin b holds n_b of the N
    examples; the bins divide the confidences from 0 to 1 into intervals of equal width
    (Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599).

    Args:
      logits: [N, C].
      labels: int [N].
      bins: number of bins.
    """
    logits = logits.astype(np.float64)
    confidence = 1 / np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)
    members = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(members, weights=correct(logits, labels) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def paired_bootstrap(
    score: Callable[[np.ndarray], np.ndarray],
    seeds: int,
    examples: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns a 95 % confidence interval of the difference of two methods' mean scores.

    The bootstrap is paired: it compares the methods seed by seed, on the same test examples. Each
    resample draws both seeds and examples with replacement.

    With few seeds the interval is too narrow, because a bootstrap only draws from the observed
    seeds. If the variance between seeds dominates, an interval from three seeds contains the true
    difference in about 75 % of cases instead of 95 %.

    Args:
      score: a function that maps indices [N] of test examples to the differences [seeds] of the
        two methods' scores on these examples. `difference` returns such a function.
      seeds: number of students of each method.
      examples: number N of test examples.
      resamples: number of resamples.
      seed: seed of the random number generator.

    Returns:
      The 2.5th and 97.5th percentiles of the mean difference.
    """
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = rng.integers(seeds, size=seeds)
        means.append(score(rng.integers(examples, size=examples))[drawn].mean())
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def williams(
    predictions: np.ndarray, other_predictions: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Tests whether two predictions of the same labels have different correlations with them.

    With r_1 and r_2 the correlations of both predictions with the labels, r that of the predictions
    with each other, and N examples, the statistic of Williams' test is

        t = (r_1 - r_2) sqrt((N - 1) (1 + r) / (2 K (N - 1) / (N - 3) + m^2 (1 - r)^3))

    where K = 1 - r_1^2 - r_2^2 - r^2 + 2 r_1 r_2 r and m = (r_1 + r_2) / 2. If the true
    correlations are equal, it has Student's t distribution with N - 3 degrees of freedom.

    Source: Williams, "Regression Analysis", 1959; Graham and Baldwin, "Testing for Significance of
    Increased Correlation with Human Judgment", EMNLP 2014, https://aclanthology.org/D14-1020.

    Args:
      predictions: [N].
      other_predictions: [N].
      labels: [N], N at least 4.

    Returns:
      t, and the two-sided p value; 0 and 1 if both predictions have the same order and spacing.
    """
    stats = require("scipy.stats", "text")
    count = len(labels)
    columns = np.stack([predictions, other_predictions, labels]).astype(np.float64)
    table = np.asarray(np.corrcoef(columns))
    between, first, second = table[0, 1], table[0, 2], table[1, 2]
    if between >= 1 - 1e-12:
        return 0.0, 1.0
    determinant = 1 - first**2 - second**2 - between**2 + 2 * first * second * between
    mean_square = ((first + second) / 2) ** 2
    variance = 2 * determinant * (count - 1) / (count - 3) + mean_square * (1 - between) ** 3
    t = float((first - second) * np.sqrt((count - 1) * (1 + between) / variance))
    return t, float(2 * stats.t.sf(abs(t), count - 3))


def difference(
    logits: Sequence[np.ndarray], reference: Sequence[np.ndarray], labels: np.ndarray, task: Task
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from test examples to the differences of two methods' scores by seed.

    Args:
      logits: [N, C] of each student of one method.
      reference: [N, C] of each student of the other method, in the same order of seeds.
      labels: [N].
      task: the task, whose metric is the score.

    Returns:
      A function that maps indices of examples to the differences [seeds].

    Raises:
      ValueError: the methods have different numbers of students.
    """
    if len(logits) != len(reference):
        raise ValueError(
            f"expected equal numbers of students, got {len(logits)} and {len(reference)}"
        )
    pairs = [
        (metrics.predictions(one, task), metrics.predictions(other, task))
        for one, other in zip(logits, reference, strict=True)
    ]
    if task.metric == "accuracy":  # A mean over examples is much faster than the metric.
        gaps = np.stack([1.0 * (one == labels) - (other == labels) for one, other in pairs])
        return lambda indices: gaps[:, indices].mean(axis=1)
    metric = metrics.METRICS[task.metric]

    def score(indices: np.ndarray) -> np.ndarray:
        drawn = labels[indices]
        return np.array(
            [metric(drawn, one[indices]) - metric(drawn, other[indices]) for one, other in pairs]
        )

    return score


def text_difference(
    texts: Sequence[Sequence[str]],
    others: Sequence[Sequence[str]],
    references: Sequence[str],
    task: Task,
    groups: Sequence[str] = (),
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from rows to the differences of two methods' scores by seed.

    Args:
      texts: N texts of each student of one method.
      others: N texts of each student of the other method, in the same order of seeds.
      references: N texts.
      task: the task, whose metric is BLEU or a mean over rows.
      groups: the group of each row, if the metric is a mean over groups.

    Raises:
      ValueError: see `corpus_difference`.
      InputError: the package of the metric is not installed.
    """
    if task.metric == "bleu":
        return corpus_difference(texts, others, references)

    def rows(hypotheses: Sequence[str]) -> np.ndarray:
        if task.group_metrics:
            return answers.group_rows(hypotheses, references, groups, dict(task.group_metrics))
        return answers.ROW_METRICS[task.metric](hypotheses, references)

    gaps = np.stack([rows(one) - rows(other) for one, other in zip(texts, others, strict=True)])
    return lambda indices: gaps[:, indices].mean(axis=1)


def corpus_difference(
    hypotheses: Sequence[Sequence[str]],
    others: Sequence[Sequence[str]],
    references: Sequence[str],
    metric: str = "bleu",
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from rows to the differences of two methods' corpus scores by seed.

    The n-grams are counted once; the score of drawn rows comes from the sum of their counts.

    Args:
      hypotheses: N texts of each student of one method.
      others: N texts of each student of the other method, in the same order of seeds.
      references: N texts.
      metric: 'bleu' or 'chrf'.

    Returns:
      A function that maps indices of rows to the differences [seeds], from -1 to 1.

    Raises:
      ValueError: the methods have different numbers of students, or the texts different numbers of
        rows.
      InputError: sacreBLEU is not installed.
    """
    if len(hypotheses) != len(others):
        raise ValueError(
            f"expected equal numbers of students, got {len(hypotheses)} and {len(others)}"
        )
    count, score_of_counts = generation.COUNTED[metric]
    # [method, seed, row, count]. Sums of float64 are exact here, and its matrix products are fast.
    counts = np.array(
        [[count(student, references) for student in students] for students in (hypotheses, others)],
        np.float64,
    )

    def score(indices: np.ndarray) -> np.ndarray:
        times_drawn = np.bincount(indices, minlength=len(references)).astype(np.float64)
        one, other = np.apply_along_axis(score_of_counts, -1, times_drawn @ counts)
        return one - other

    return score
