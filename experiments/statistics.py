"""What a comparison says of predictions: pure functions of logits and labels."""

from collections.abc import Callable, Sequence

import numpy as np

from akd_jax import metrics
from akd_jax.types import Task


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each example's largest logit is its label's: [..., C], [...] to float64 [...]."""
    return (logits.argmax(axis=-1) == labels).astype(np.float64)


def agreement(student_logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """The share of examples that student and teacher put into the same class."""
    return float(np.mean(student_logits.argmax(axis=-1) == teacher_logits.argmax(axis=-1)))


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The gap between confidence and accuracy: sum_b n_b / N |accuracy_b - confidence_b|.

    Examples are sorted into bins of equal width by confidence, the largest softmax output
    (Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599).

    Args:
      logits: [N, C].
      labels: int [N].
      bins: their number.
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
    """A 95 % interval of the difference of two methods' mean scores.

    Both are compared on the same test examples, and seed by seed; seeds and examples are
    both drawn anew, with replacement, in each resample.

    With few seeds the interval is too narrow, since a bootstrap cannot draw seeds worse than
    those there are: where the seeds' scatter dominates, three of them cover the true
    difference in about 75 % of cases, not 95 %.

    Args:
      score: the differences [seeds] of the two methods' scores on the examples of given
        indices [N]. Such as `difference`'s.
      seeds: students of each method.
      examples: N, of the test split.
      resamples: their number.
      seed: of the draws.

    Returns:
      The 2.5th and 97.5th percentile of the mean difference.
    """
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = rng.integers(seeds, size=seeds)
        means.append(score(rng.integers(examples, size=examples))[drawn].mean())
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def difference(
    logits: Sequence[np.ndarray], reference: Sequence[np.ndarray], labels: np.ndarray, task: Task
) -> Callable[[np.ndarray], np.ndarray]:
    """The difference of two methods' scores, seed by seed, as a function of the test examples.

    Args:
      logits: of one method's students, each [N, C].
      reference: of the other's, as many.
      labels: [N].
      task: its metric is the score.

    Raises:
      ValueError: the methods have not as many students.
    """
    if len(logits) != len(reference):
        raise ValueError(f"expected as many students, got {len(logits)} and {len(reference)}")
    pairs = [
        (metrics.predictions(one, task), metrics.predictions(other, task))
        for one, other in zip(logits, reference, strict=True)
    ]
    if task.metric == "accuracy":  # A mean over the examples, without the metric's overhead.
        gaps = np.stack([1.0 * (one == labels) - (other == labels) for one, other in pairs])
        return lambda indices: gaps[:, indices].mean(axis=1)
    metric = metrics.METRICS[task.metric]

    def score(indices: np.ndarray) -> np.ndarray:
        drawn = labels[indices]
        return np.array(
            [metric(drawn, one[indices]) - metric(drawn, other[indices]) for one, other in pairs]
        )

    return score
