"""Compares the losses of relations with PyTorch, with closed forms and with their identities."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.types import Batch, Clock, Outputs
from experiments.benchmarks.losses import relations as references
from tests.support.loss_checks import (
    check_devices,
    check_finite,
    check_padding,
    check_pytorch,
    check_transforms,
)

FUNCTIONS = [
    losses.sp,
    losses.pkt,
    losses.correlation_congruence,
    losses.rkd_distance,
    losses.rkd_angle,
]
DISTANCES = (losses.rkd_distance, losses.rkd_angle)
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


def features(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def pair(student, teacher):
    return {"student_features": features(*student), "teacher_features": features(*teacher, seed=1)}


def mean(function, student, teacher, weights=None, **kwargs):
    """Returns the loss that a training step computes from the values."""
    weights = jnp.ones(len(student)) if weights is None else jnp.asarray(weights)
    values = function(student, teacher, weights=weights, **kwargs)
    return jnp.sum(values * weights) / weights.sum()


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, student, teacher, weights=None):
    return jax.value_and_grad(functools.partial(mean, function))(student, teacher, weights)


@every_function
def test_value_and_gradient_equal_pytorch(function):
    # One teacher's example is far from the others: some differences of distances are above 1.
    arrays = pair((6, 2, 2, 3), (6, 7))
    arrays["teacher_features"][0] *= 20
    check_pytorch(function, getattr(references, function.__name__), arrays)


def test_closed_forms():
    # Two orthogonal examples of the student; the teacher's point in the same direction.
    student, teacher = np.float32([[1, 0], [0, 2]]), np.float32([[1, 1], [3, 3]])
    # The rows of similarities are (2, 6) and (6, 18), with norms 2 and 6 / root.
    root = np.sqrt(0.1)
    expected = [(1 - root) ** 2 / 2 + 0.9 / 2, 0.1 / 2 + (1 - np.sqrt(0.9)) ** 2 / 2]
    values = jax.jit(losses.sp)(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=1e-5)

    # The cosines are 0 and 1: the teacher's probabilities are 1/2, the student's 2/3 and 1/3.
    expected = (0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3))) / 2
    np.testing.assert_allclose(jax.jit(losses.pkt)(student, teacher), expected, rtol=1e-5)

    # The kernels differ only in the pair: exp(-0.8) times 1, and 1 + 0.8 + 0.32.
    expected = (math.exp(-0.8) * 1.12) ** 2 / 2
    np.testing.assert_allclose(
        jax.jit(losses.correlation_congruence)(student, teacher), expected, rtol=1e-5
    )

    # The distances are 1, 1 and 2 in a line, and 1, 1 and 1 in a triangle with equal sides. The
    # means are 4 / 3 and 1: the relative distances differ by 1/4, 1/4 and 1/2.
    line = np.float32([[0, 0], [1, 0], [2, 0]])
    triangle = np.float32([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    values = jax.jit(losses.rkd_distance)(line, triangle)
    huber = np.square([1 / 4, 1 / 4, 1 / 2]) / 2  # Of the pairs 01, 12 and 02.
    expected = [(huber[0] + huber[2]) / 3, (huber[0] + huber[1]) / 3, (huber[1] + huber[2]) / 3]
    np.testing.assert_allclose(values, expected, rtol=1e-5)

    # The cosines are 1, -1 and 1 in the line, and 1/2 in the triangle. The differences are 1/2,
    # -3/2 and 1/2, each in two of the nine triples of an example.
    values = jax.jit(losses.rkd_angle)(line, triangle)
    expected = np.array([0.125, 1.5 - 0.5, 0.125]) * 2 / 9
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_series_of_the_kernel_converges_to_the_gaussian():
    student, teacher = features(5, 3), features(5, 4, seed=1)

    def kernel(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.exp(-0.7 * np.square(x[:, None] - x).sum(-1))

    expected = np.square(kernel(student) - kernel(teacher)).mean(axis=1)
    function = functools.partial(losses.correlation_congruence, gamma=0.7, order=9)
    values = jax.jit(function)(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=1e-4)


@every_function
def test_equal_relations_give_no_loss(function):
    teacher = features(6, 4)
    rotation, _ = np.linalg.qr(features(4, 4, seed=1))
    student = np.float32(3 * teacher @ rotation)
    rounding = 1e-7 if function is losses.pkt else 1e-10
    assert abs(value_and_gradient(function, student, teacher)[0]) < rounding
    if function in DISTANCES:
        assert value_and_gradient(function, student + 2, teacher)[0] < 1e-10
    # The features of another example change all of them.
    student[0] = features(4, seed=2)
    assert value_and_gradient(function, student, teacher)[0] > 1e-3


@every_function
def test_examples_of_weight_0_change_nothing(function):
    check_padding(function, pair((5, 3), (5, 4)))


@every_function
def test_a_weight_counts_copies(function):
    student, teacher = features(4, 3), features(4, 4, seed=1)
    weights = np.array([1, 3, 1, 2])
    copies = [np.repeat(x, weights, axis=0) for x in (student, teacher)]
    expected, _ = value_and_gradient(function, *copies)
    value, _ = value_and_gradient(function, student, teacher, np.float32(weights))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@every_function
@pytest.mark.parametrize("rows", [1, 4])
def test_equal_examples_have_finite_gradients(function, rows):
    student, teacher = np.ones((rows, 3), np.float32), features(rows, 3)
    value, gradient = value_and_gradient(function, student, teacher)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if rows == 1:
        assert abs(value) < 1e-12
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
        return
    # Features of zero, as of a dead ReLU, are equal as well; their gradient is not huge.
    _, gradient = value_and_gradient(function, 0 * student, teacher)
    assert np.abs(gradient).max() < 10
    # A batch that holds only padding has the value 0.
    values = jax.jit(function)(student, teacher, weights=np.zeros(rows, np.float32))
    np.testing.assert_array_equal(values, 0)


@every_function
def test_large_bfloat16_and_small_opposite_features(function):
    arrays = {name: np.float32(1e8) * x for name, x in pair((4, 3), (4, 5)).items()}
    check_finite(function, {name: x.astype(jnp.bfloat16) for name, x in arrays.items()})
    opposite = np.float32(1e-8) * np.float32([[1], [-1], [1], [-1]]) * np.float32([[1, 2, 3]])
    check_finite(function, {"student_features": opposite, "teacher_features": -opposite[::-1]})


def test_angles_between_examples_that_are_close_to_each_other():
    # Far from the origin, products of features would leave no digit of the small distances.
    student = np.float32(1000 + np.round(8 * features(6, 4)) / 64)
    arrays = {"student_features": student, "teacher_features": features(6, 4, seed=1)}
    for function in DISTANCES:
        reference = getattr(references, function.__name__)
        check_pytorch(function, reference, arrays, rtol=1e-4, gradient_tolerance=2e-3)


def test_an_example_and_its_near_duplicate():
    student = features(6, 4)
    student[1] = student[0] + np.float32(1e-5) * features(4, seed=2)
    arrays = {"student_features": student, "teacher_features": features(6, 4, seed=1)}
    for function in DISTANCES:
        reference = getattr(references, function.__name__)
        check_pytorch(function, reference, arrays, rtol=1e-4, gradient_tolerance=5e-3)


@every_function
def test_transforms(function):
    check_transforms(function, pair((4, 3), (4, 5)))


@every_function
def test_four_devices_equal_one_device(function):
    weights = [1, 1, 2, 1, 0, 0, 0, 0, 1, 0, 1, 0.5, 1, 1, 1, 1]  # One device has no example.
    check_devices(function, pair((16, 2, 3), (16, 5)), weights)


@every_function
def test_shapes_are_checked(function):
    student, teacher = features(4, 3), features(4, 3, seed=1)
    with pytest.raises(ValueError, match="features of the student's 4 examples, got 3; give"):
        function(student, teacher[:3])
    with pytest.raises(ValueError, match=r"weights: expected shape \(4,\), got \(4, 1\)"):
        function(student, teacher, weights=np.ones((4, 1), np.float32))


def test_options_of_the_kernel_are_checked():
    rows = features(2, 3)
    for gamma in (0.0, math.inf):
        message = rf"^gamma: expected finite values greater than 0, got {gamma}$"
        with pytest.raises(ValueError, match=message):
            losses.correlation_congruence(rows, rows, gamma=gamma)
    with pytest.raises(ValueError, match=r"^order: expected values of at least 1, got 0$"):
        losses.correlation_congruence(rows, rows, order=0)


def test_cc_trains_an_embedding_of_the_student():
    batch = Batch(np.zeros(4), np.zeros(4, np.int32), np.float32([1, 1, 1, 0]))
    student, teacher = (
        Outputs(jnp.zeros((4, 1)), {"pooled": x}) for x in pair((4, 3), (4, 5)).values()
    )
    loss = losses.CC(width=2, gamma=0.5, order=3)
    arguments = student, {"teacher": teacher}, batch, Clock.at()
    variables = loss.init(jax.random.key(0), *arguments)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"student": {"kernel": (3, 2), "bias": (2,)}}
    }
    (term,) = loss.apply(variables, *arguments).values()
    layer = variables["params"]["student"]
    embedded = student.features["pooled"] @ layer["kernel"] + layer["bias"]
    expected = losses.correlation_congruence(
        embedded, teacher.features["pooled"], gamma=0.5, order=3, weights=batch.weights
    )
    np.testing.assert_allclose(term.values, expected, rtol=1e-5)
    np.testing.assert_array_equal(term.weights, batch.weights)
