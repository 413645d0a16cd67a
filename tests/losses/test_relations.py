"""Compares the losses of relations with PyTorch, with closed forms and with their identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax import losses

FUNCTIONS = [losses.sp, losses.rkd_distance, losses.rkd_angle]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


def features(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def mean(function, student, teacher, weights=None, **kwargs):
    """Returns the loss that a training step computes from the values."""
    weights = jnp.ones(len(student)) if weights is None else jnp.asarray(weights)
    values = function(student, teacher, weights=weights, **kwargs)
    return jnp.sum(values * weights) / weights.sum()


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, student, teacher, weights=None):
    return jax.value_and_grad(functools.partial(mean, function))(student, teacher, weights)


def torch_similarity_preserving(student, teacher):
    def similarities(x):
        products = x @ x.T
        return products / products.norm(dim=1, keepdim=True)

    return (similarities(student) - similarities(teacher)).square().sum() / len(student) ** 2


def torch_rkd_distance(student, teacher):
    def distances(x):
        indices = torch.triu_indices(len(x), len(x), 1)
        pairs = (x[indices[0]] - x[indices[1]]).norm(dim=1)
        matrix = torch.zeros(len(x), len(x), dtype=x.dtype)
        matrix = matrix.index_put((indices[0], indices[1]), pairs / pairs.mean())
        return matrix + matrix.T

    return torch.nn.functional.smooth_l1_loss(distances(student), distances(teacher))


def torch_rkd_angle(student, teacher):
    def angle(x, i, j, k):
        if j == i or k == i:
            return torch.zeros((), dtype=x.dtype)
        return torch.nn.functional.cosine_similarity(x[j] - x[i], x[k] - x[i], dim=0)

    rows = range(len(student))
    triples = [(i, j, k) for i in rows for j in rows for k in rows]
    return torch.nn.functional.smooth_l1_loss(
        torch.stack([angle(student, *triple) for triple in triples]),
        torch.stack([angle(teacher, *triple) for triple in triples]),
    )


REFERENCES = [torch_similarity_preserving, torch_rkd_distance, torch_rkd_angle]


@pytest.mark.parametrize(("function", "reference"), list(zip(FUNCTIONS, REFERENCES, strict=True)))
def test_value_and_gradient_equal_pytorch(function, reference):
    # One teacher's example is far from the others: some differences of distances are above 1.
    student, teacher = features(6, 2, 2, 3), features(6, 7, seed=1)
    teacher[0] *= 20
    value, gradient = value_and_gradient(function, student, teacher)
    tensor = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    expected = reference(tensor.flatten(1), torch.tensor(teacher, dtype=torch.float64))
    expected.backward()
    assert expected.item() > 0.01
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, tensor.grad, atol=1e-6 * tensor.grad.abs().max().item())


def test_closed_forms():
    # Two orthogonal examples of the student; the teacher's point in the same direction.
    student, teacher = np.float32([[1, 0], [0, 2]]), np.float32([[1, 1], [3, 3]])
    root = np.sqrt(
        0.1
    )  # The rows of similarities are (2, 6) and (6, 18), with norms 2 and 6 / root.
    expected = [(1 - root) ** 2 / 2 + 0.9 / 2, 0.1 / 2 + (1 - np.sqrt(0.9)) ** 2 / 2]
    values = losses.sp(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=1e-5)

    # The distances are 1, 1 and 2 in a line, and 1, 1 and 1 in a triangle with equal sides. The
    # means are 4 / 3 and 1: the relative distances differ by 1/4, 1/4 and 1/2.
    line = np.float32([[0, 0], [1, 0], [2, 0]])
    triangle = np.float32([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    values = losses.rkd_distance(line, triangle)
    huber = np.square([1 / 4, 1 / 4, 1 / 2]) / 2  # Of the pairs 01, 12 and 02.
    expected = [(huber[0] + huber[2]) / 3, (huber[0] + huber[1]) / 3, (huber[1] + huber[2]) / 3]
    np.testing.assert_allclose(values, expected, rtol=1e-5)

    # The cosines are 1, -1 and 1 in the line, and 1/2 in the triangle. The differences are 1/2,
    # -3/2 and 1/2, each in two of the nine triples of an example.
    values = losses.rkd_angle(line, triangle)
    expected = np.array([0.125, 1.5 - 0.5, 0.125]) * 2 / 9
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@every_function
def test_equal_relations_give_no_loss(function):
    teacher = features(6, 4)
    rotation, _ = np.linalg.qr(features(4, 4, seed=1))
    student = np.float32(3 * teacher @ rotation)
    assert value_and_gradient(function, student, teacher)[0] < 1e-10
    if function is not losses.sp:
        assert value_and_gradient(function, student + 2, teacher)[0] < 1e-10
    # The features of another example change all of them.
    student[0] = features(4, seed=2)
    assert value_and_gradient(function, student, teacher)[0] > 1e-3


@every_function
def test_examples_of_weight_0_change_nothing(function):
    student, teacher = features(5, 3), features(5, 4, seed=1)
    expected, gradient = value_and_gradient(function, student, teacher)
    # Padding is a copy of an example, zeros, or something else.
    padded = [
        np.concatenate([x[:2], x[:1], 0 * x[:1], 9 * features(1, x.shape[1], seed=2), x[2:]])
        for x in (student, teacher)
    ]
    weights = np.float32([1, 1, 0, 0, 0, 1, 1, 1])
    value, padded_gradient = value_and_gradient(function, *padded, weights)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(padded_gradient[weights > 0], gradient, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(padded_gradient[weights == 0], 0)


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
    # Features of zero, as of a dead ReLU, are equal as well; their gradient is not huge.
    _, gradient = value_and_gradient(function, 0 * student, teacher)
    assert np.abs(gradient).max() < 10
    # A batch that holds only padding has the value 0.
    values = jax.jit(function)(student, teacher, weights=np.zeros(rows, np.float32))
    np.testing.assert_array_equal(values, 0)


@every_function
def test_four_devices_equal_one_device(function):
    student, teacher = features(16, 2, 3), features(16, 5, seed=1)
    weights = np.float32([1, 1, 2, 1, 0, 0, 0, 0, 1, 0, 1, 0.5, 1, 1, 1, 1])  # One has no example.

    def share(student, teacher, weights):
        """Returns a device's share of the loss."""
        values = function(student, teacher, weights=weights, axis_name="device")
        return jnp.sum(values * weights) / jax.lax.psum(weights.sum(), "device")

    parts = [x.reshape(4, 4, *x.shape[1:]) for x in (student, teacher, weights)]
    shares, gradients = jax.pmap(jax.value_and_grad(share), axis_name="device")(*parts)
    assert len(shares) == 4
    value, gradient = value_and_gradient(function, student, teacher, weights)
    np.testing.assert_allclose(shares.sum(), value, rtol=1e-5)
    np.testing.assert_allclose(gradients.reshape(gradient.shape), gradient, rtol=1e-4, atol=1e-6)


@every_function
def test_the_teacher_gets_no_gradient_and_shapes_are_checked(function):
    student, teacher = features(4, 3), features(4, 3, seed=1)
    gradient = jax.grad(lambda teacher: mean(function, student, teacher))(teacher)
    np.testing.assert_array_equal(gradient, 0)
    with pytest.raises(ValueError, match="features of the student's 4 examples, got 3; give"):
        function(student, teacher[:3])
    with pytest.raises(ValueError, match=r"weights: expected shape \(4,\), got \(4, 1\)"):
        function(student, teacher, weights=np.ones((4, 1), np.float32))
