import numpy as np
import pytest

from experiments import scores


def test_agreement_by_hand():
    student = np.array([[1, 0], [0, 1], [2, 1], [0, 3]])
    teacher = np.array([[5, 0], [1, 0], [2, 1], [0, 9]])
    assert scores.agreement(student, teacher) == 3 / 4


def test_calibration_error_by_hand():
    # Confidences .9 .9 .6 .6; right, wrong, right, right. Bins of width 1/15: .9 and .6 apart.
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    expected = 0.5 * abs(0.5 - 0.9) + 0.5 * abs(1 - 0.6)
    np.testing.assert_allclose(scores.expected_calibration_error(logits, labels), expected)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not():
    logits = np.array([[1000.0, 0.0]] * 4)
    assert scores.expected_calibration_error(logits, np.zeros(4, int)) == 0
    assert scores.expected_calibration_error(logits, np.ones(4, int)) == 1


def test_calibration_error_of_labels_drawn_from_the_predictions_is_small():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100_000, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = (rng.uniform(size=(100_000, 1)) > probabilities.cumsum(axis=-1)).sum(axis=-1)
    assert scores.expected_calibration_error(logits, labels) < 0.01
    assert scores.expected_calibration_error(5 * logits, labels) > 0.1


def test_bootstrap_covers_the_difference_of_example_noise():
    # Differences of independent examples: the interval is the normal one of the mean.
    rng = np.random.default_rng(0)
    difference = rng.normal(0.1, 1.0, size=(1, 4000))
    low, high = scores.paired_bootstrap(difference, np.zeros_like(difference))
    error = difference.std() / np.sqrt(4000)
    mean = difference.mean()
    np.testing.assert_allclose([low, high], [mean - 1.96 * error, mean + 1.96 * error], atol=0.005)


def test_bootstrap_is_paired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(3, 500))  # Shared by both: it cancels.
    low, high = scores.paired_bootstrap(hard + 0.01, hard)
    np.testing.assert_allclose([low, high], [0.01, 0.01])


def test_bootstrap_draws_seeds_too():
    # All examples of a seed alike: with two seeds of +1 and -1 the mean is -1, 0 or 1.
    difference = np.array([[1.0] * 100, [-1.0] * 100])
    assert scores.paired_bootstrap(difference, np.zeros((2, 100))) == (-1, 1)


def test_bootstrap_needs_pairs():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 5\), \(3, 5\)"):
        scores.paired_bootstrap(np.zeros((2, 5)), np.zeros((3, 5)))
