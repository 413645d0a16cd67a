"""The identities of DIST, MLKD and standardised logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from tests.support.loss_checks import check_finite, value_and_gradients

# Compiled as a whole: that takes less time than the compilation of each of their operations.
dist = jax.jit(losses.dist)
multi_level = jax.jit(losses.multi_level, static_argnames="masks")
standardize, standardized_kl = jax.jit(losses.standardize), jax.jit(losses.standardized_kl)
RELATIONAL = pytest.mark.parametrize("function", [dist, multi_level], ids=["dist", "multi_level"])


def logits(rows=6, classes=5, seed=0):
    return np.float32(2 * np.random.default_rng(seed).normal(size=(rows, classes)))


def pair(student, teacher):
    return {"student_logits": student, "teacher_logits": teacher}


def softmax(z):
    return np.array(jax.nn.softmax(z))


@pytest.mark.parametrize("options", [{}, {"inter": 0.0}, {"intra": 0.0}])
def test_dist_ignores_a_mixture_with_the_uniform_distribution(options):
    student, teacher = logits(), logits(seed=1)
    mixed = np.log(0.3 * softmax(student) + 0.7 / 5)
    expected = dist(student, teacher, **options)
    np.testing.assert_allclose(dist(mixed, teacher, **options), expected, rtol=1e-4)
    np.testing.assert_allclose(
        dist(np.log(0.3 * softmax(teacher) + 0.7 / 5), teacher).mean(), 0, atol=1e-5
    )


def test_dist_equals_numpy():
    student, teacher = logits(), logits(seed=1)
    q, p = softmax(student), softmax(teacher)
    over_classes = [np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    values = dist(student, teacher, intra=0.0)
    np.testing.assert_allclose(values, 1 - np.array(over_classes), rtol=1e-4)
    over_rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)]
    values = dist(student, teacher, inter=0.0)
    np.testing.assert_allclose(values.mean(), 1 - np.mean(over_rows), rtol=1e-4)


def test_dist_of_constant_predictions():
    teacher = logits()
    # A single example has no relation to others.
    one = pair(logits(1, seed=1), teacher[:1])
    inter = dist(*one.values(), intra=0.0)
    np.testing.assert_allclose(check_finite(dist, one), inter, rtol=1e-6)
    # The student's probabilities are all equal, or equal for all examples. They have no gradient.
    for student, expected in (
        (np.full_like(teacher, 0.3), 2.0),
        (np.tile(teacher[:1], (6, 1)), None),
    ):
        values, gradients = value_and_gradients(dist, pair(student, teacher))
        assert np.isfinite(gradients["student_logits"]).all()
        assert np.abs(gradients["student_logits"]).max() < 1
        if expected is not None:
            np.testing.assert_allclose(values, expected)


@RELATIONAL
def test_a_weight_counts_copies(function):
    student, teacher, weights = logits(), logits(seed=1), np.array([1, 3, 1, 0, 2, 1])
    copies = function(*(np.repeat(x, weights, axis=0) for x in (student, teacher)))
    weights = np.float32(weights)
    values = function(student, teacher, weights=weights)
    np.testing.assert_allclose((values * weights).sum() / 8, copies.mean(), rtol=1e-4)


@RELATIONAL
def test_a_batch_of_padding_is_finite(function):
    check_finite(
        functools.partial(function, weights=np.zeros(6, np.float32)), pair(logits(), logits(seed=1))
    )


@RELATIONAL
def test_equal_predictions_have_no_loss(function):
    values, gradients = value_and_gradients(function, pair(logits(), logits()))
    np.testing.assert_allclose(values.mean(), 0, atol=1e-5)
    np.testing.assert_allclose(gradients["student_logits"], 0, atol=1e-5)


@RELATIONAL
def test_shapes_are_checked(function):
    with pytest.raises(ValueError, match=r"expected shape \[B, C\], got \(2, 3, 5\); flatten"):
        function(np.zeros((2, 3, 5)), np.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match=r"weights: expected shape \(6,\), got \(5,\)"):
        function(logits(), logits(), weights=np.ones(5))


def test_the_options_of_dist_are_checked():
    with pytest.raises(ValueError, match="inter: expected finite values of at least 0, got -1"):
        losses.dist(logits(), logits(), inter=-1.0)
    with pytest.raises(ValueError, match=r"temperature: expected a scalar .*, got shape \(6,\)"):
        losses.dist(logits(), logits(), jnp.ones(6))


def test_multi_level_without_masks_equals_numpy():
    student, teacher = logits(), logits(seed=1)
    expected = 0
    for temperature in (2, 3, 4, 5, 6):
        q, p = softmax(student / temperature), softmax(teacher / temperature)
        expected += temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
        expected += np.square(p @ p.T - q @ q.T).sum() / 6
        expected += np.square(p.T @ p - q.T @ q).sum() / 5
    values = multi_level(student, teacher, masks=False)
    np.testing.assert_allclose(values.mean(), expected, rtol=1e-5)
    assert multi_level(student, teacher).mean() < values.mean()


def test_multi_level_keeps_digits_of_small_differences():
    teacher = logits().astype(np.float64)
    student = teacher + 1e-3 * logits(seed=1)
    expected = 0
    for temperature in (2, 3, 4, 5, 6):
        # In float64; the level of examples is left to the tests of kl.
        q, p = (np.exp(z / temperature) for z in (student, teacher))
        q, p = q / q.sum(axis=1, keepdims=True), p / p.sum(axis=1, keepdims=True)
        expected += np.square(p @ p.T - q @ q.T).sum() / 6
        expected += np.square(p.T @ p - q.T @ q).sum() / 5
    student, teacher = np.float32(student), np.float32(teacher)
    values = multi_level(student, teacher, masks=False)
    instances = sum(losses.kl(student, teacher, float(t)).mean() for t in (2, 3, 4, 5, 6))
    np.testing.assert_allclose(values.mean() - instances, expected, rtol=0.02)


def test_standardized_logits_have_mean_0_and_deviation_1():
    scores = standardize(logits())
    np.testing.assert_allclose(scores.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(scores.std(axis=1, ddof=1), 1, rtol=1e-5)


def test_standardization_ignores_scale_and_shift():
    student, teacher = logits(), logits(seed=1)
    scale, shift = np.float32([[1], [2], [3], [4], [0.5], [1]]), np.float32([[1], [2], [50]] * 2)
    np.testing.assert_allclose(
        standardize(scale * student + shift), standardize(student), atol=1e-4
    )
    expected = standardized_kl(student, teacher)
    actual = standardized_kl(scale * student + shift, teacher)
    np.testing.assert_allclose(actual, expected, rtol=1e-3)
    composed = losses.kl(standardize(student), standardize(teacher), 2.0)
    np.testing.assert_array_equal(expected, composed)


def test_standardization_of_equal_and_excluded_logits():
    equal = jnp.array([[0.1, 0.1, 0.1], [7.3, 7.3, -jnp.inf]])
    scores, gradient = jax.value_and_grad(
        lambda z: jnp.where(z > -jnp.inf, standardize(z), 0).sum()
    )(equal)
    assert scores == 0
    np.testing.assert_array_equal(gradient, 0)
    scores = standardize(jnp.array([1.0, -jnp.inf, 3.0]))
    np.testing.assert_allclose(scores, [-np.sqrt(0.5), -np.inf, np.sqrt(0.5)], rtol=1e-5)
    np.testing.assert_array_equal(standardize(jnp.array([[2.0]])), 0)
