"""The average of several teachers, against NumPy and PyTorch."""

import jax
import numpy as np
import pytest
import torch

from akd_jax import losses

K, B, C, T = 3, 4, 5, 2.5
LOGITS = np.float32(3 * np.random.default_rng(0).normal(size=(K, B, C)))
WEIGHTS = np.float32([0.2, 0.5, 0.3])


def softmax(logits):
    return np.asarray(torch.softmax(torch.tensor(logits), dim=-1))


@pytest.mark.parametrize("weights", [None, WEIGHTS, 7 * WEIGHTS])
def test_average_of_probabilities(weights):
    shares = np.full(K, 1 / 3) if weights is None else WEIGHTS
    expected = np.einsum("k,kbc->bc", shares, softmax(LOGITS / T))
    logits = losses.average_teachers(LOGITS, weights, temperature=T)
    np.testing.assert_allclose(softmax(np.asarray(logits) / T), expected, rtol=1e-5)
    # They are logits: the loss of another student is that against the averaged probabilities.
    student = np.float32(np.random.default_rng(1).normal(size=(B, C)))
    reference = T**2 * torch.nn.functional.kl_div(
        torch.log_softmax(torch.tensor(student) / T, dim=-1),
        torch.tensor(np.float32(expected)),
        reduction="none",
    ).sum(dim=-1)
    np.testing.assert_allclose(losses.kl(student, logits, T), reference, rtol=1e-4)


def test_average_of_logits():
    expected = np.einsum("k,kbc->bc", WEIGHTS, LOGITS)
    logits = losses.average_teachers(LOGITS, WEIGHTS, average="logits")
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    # A regression has one logit, whose softmax would be 1.
    numbers = losses.average_teachers(LOGITS[..., :1], WEIGHTS, temperature=T)
    np.testing.assert_allclose(numbers, expected[:, :1], rtol=1e-5, atol=1e-6)


def test_weights_of_each_example_choose_teachers():
    weights = np.float32([[1, 0, 0], [0, 0, 2], [0, 1, 1], [1, 1, 1]])
    probabilities = softmax(np.asarray(losses.average_teachers(LOGITS, weights)))
    teachers = softmax(LOGITS)
    expected = [
        teachers[0, 0],
        teachers[2, 1],
        teachers[1:, 2].mean(axis=0),
        teachers[:, 3].mean(axis=0),
    ]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


def test_teachers_of_weight_0_do_not_count_and_nothing_gets_a_gradient():
    logits = LOGITS.copy()
    logits[1] = np.nan
    with jax.debug_nans(False):
        average = losses.average_teachers(logits, np.float32([1, 0, 0]), average="logits")
    np.testing.assert_allclose(average, LOGITS[0], rtol=1e-6)

    def total(logits, weights):
        return losses.average_teachers(logits, weights).sum()

    for gradient in jax.grad(total, (0, 1))(LOGITS, WEIGHTS):
        np.testing.assert_array_equal(gradient, 0)


def test_excluded_classes_stay_excluded():
    logits = LOGITS.copy()
    logits[:, :, 0] = -np.inf
    average = losses.average_teachers(logits)
    np.testing.assert_array_equal(average[:, 0], -np.inf)
    np.testing.assert_allclose(
        softmax(np.asarray(average))[:, 1:], softmax(logits[..., 1:]).mean(axis=0), rtol=1e-5
    )


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"weights: expected shape \(3,\) or \(4, 3\) for 3 teach"):
        losses.average_teachers(LOGITS, np.ones(4, np.float32))
    for weights in ([0.0, 0.0, 0.0], [1.0, -1.0, 1.0]):
        with pytest.raises(ValueError, match="weights: expected weights of at least 0 that are"):
            losses.average_teachers(LOGITS, np.float32(weights))
    with pytest.raises(ValueError, match="average: expected 'probabilities' or 'logits'"):
        losses.average_teachers(LOGITS, average="median")
    with pytest.raises(ValueError, match="temperature: expected finite values greater than 0"):
        losses.average_teachers(LOGITS, temperature=0.0)
