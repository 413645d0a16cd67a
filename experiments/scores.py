"""What a comparison says of predictions: pure functions of logits and labels."""

import numpy as np


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
    scores: np.ndarray, reference: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval of the difference of two methods' mean scores.

    Both are compared on the same test examples, and seed by seed; seeds and examples are
    both drawn anew, with replacement, in each resample.

    With few seeds the interval is too narrow, since a bootstrap cannot draw seeds worse than
    those there are: where the seeds' scatter dominates, three of them cover the true
    difference in about 75 % of cases, not 95 %.

    Args:
      scores: of one method, [seeds, N].
      reference: of the other, [seeds, N].
      resamples: their number.
      seed: of the draws.

    Returns:
      The 2.5th and 97.5th percentile of mean(scores - reference).

    Raises:
      ValueError: the shapes differ.
    """
    if scores.shape != reference.shape:
        raise ValueError(f"expected scores of one shape, got {scores.shape}, {reference.shape}")
    rng = np.random.default_rng(seed)
    difference = scores - reference
    seeds, examples = difference.shape
    means = []
    for _ in range(resamples):
        drawn = difference[rng.integers(seeds, size=seeds)].mean(axis=0)
        means.append(drawn[rng.integers(examples, size=examples)].mean())
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
