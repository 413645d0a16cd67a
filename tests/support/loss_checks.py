"""Checks that hold for every loss: finite results, transformations of JAX, devices and PyTorch.

A loss is a function of arrays by name that returns one value per row, such as
`functools.partial(losses.kl, temperature=4.0)`. The checks differentiate it for the arrays whose
name starts with 'student'. An array may also be a tree of arrays, such as 'student_parameters'.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.benchmarks.losses.case import split_inputs


def value_and_gradients(loss, arrays, weights=None):
    """Returns the values, and the gradients of their weighted mean; the teacher gets none."""
    student, others = split_inputs(arrays)
    teachers = {name: x for name, x in others.items() if name.startswith("teacher")}
    rest = {name: x for name, x in others.items() if name not in teachers}
    counts = None if weights is None else np.float32(weights)
    (gradients, of_teachers), values = _compiled(loss)(student, teachers, rest, counts)
    for path, gradient in jax.tree.leaves_with_path(of_teachers):
        np.testing.assert_array_equal(np.asarray(gradient, np.float32), 0, err_msg=str(path))
    return np.asarray(values), jax.tree.map(np.asarray, gradients)


@functools.lru_cache
def _compiled(loss):
    """Returns the function that computes gradients and values; it compiles once per shape."""

    def mean(student, teachers, rest, counts):
        values = loss(**student, **teachers, **rest)
        counts = jnp.ones_like(values) if counts is None else counts
        return jnp.sum(values * counts) / jnp.maximum(counts.sum(), 1), values

    return jax.jit(jax.grad(mean, (0, 1), has_aux=True))


def check_finite(loss, arrays, weights=None):
    """Fails unless all values, their mean, and all gradients are finite; returns the values."""
    values, gradients = value_and_gradients(loss, arrays, weights)
    assert values.dtype == np.float32
    assert np.isfinite(values).all(), values
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(np.asarray(gradient, np.float32)).all(), path
    return values


OTHER_SHAPES = ("one row", "one class", "bfloat16")


def extreme_logits(rows=4, classes=5, seed=0):
    """Yields names, and logits of student and teacher, that break careless formulas."""
    rng = np.random.default_rng(seed)

    def logits(scale=1.0, shape=(rows, classes)):
        return np.float32(scale * rng.normal(size=shape))

    signs = np.where(rng.random((rows, classes)) < 0.5, -80, 80).astype(np.float32)
    excluded = np.zeros((rows, classes), bool)
    excluded[:, 0] = True
    student, teacher = logits(3), logits(3)
    yield "opposite logits of 80", signs, -signs
    yield "equal logits", teacher, teacher
    yield "constant logits", 0 * student, 0 * teacher
    yield (
        "a class that both exclude",
        *(np.where(excluded, -np.inf, x).astype(np.float32) for x in (student, teacher)),
    )
    yield "a class that the teacher excludes", student, np.where(excluded, -np.inf, teacher)
    yield "one row", student[:1], teacher[:1]
    yield "one class", student[:, :1], teacher[:, :1]
    yield "bfloat16", student.astype(jnp.bfloat16), teacher.astype(jnp.bfloat16)


def check_extreme_logits(loss, *, skip=(), every_shape=True, **arrays):
    """Checks that a loss of logits is finite at extreme inputs, or has no class that counts.

    Args:
      loss: reads student_logits and teacher_logits, and labels if `arrays` has them.
      skip: names of `extreme_logits` for which the loss is not defined.
      every_shape: whether to check other shapes and types too, each of which is compiled.
      **arrays: 'labels', int [4], below the number of classes 5. In other cases they are cut.
    """
    for name, student, teacher in extreme_logits():
        if name in skip or (name in OTHER_SHAPES and not every_shape):
            continue
        rows = {key: x[: len(student)] % student.shape[1] for key, x in arrays.items()}
        # The label of a row must not be the class that is excluded.
        if "exclude" in name:
            rows = {key: np.maximum(x, 1) for key, x in rows.items()}
        inputs = {"student_logits": student, "teacher_logits": teacher, **rows}
        try:
            check_finite(loss, inputs)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def check_transforms(loss, arrays):
    """Checks that vmap adds an axis to a compiled loss, and does not change its values.

    Trees of arrays, such as 'student_parameters', do not get the axis.
    """
    trees = {name: x for name, x in arrays.items() if isinstance(x, dict)}
    loss = functools.partial(loss, **trees)
    stacked = {name: np.stack([x, x[::-1]]) for name, x in arrays.items() if name not in trees}
    compiled = jax.jit(loss)
    pair = jax.jit(jax.vmap(lambda inputs: loss(**inputs)))(stacked)
    for number, values in enumerate(pair):
        expected = compiled(**{name: x[number] for name, x in stacked.items()})
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)


def check_devices(loss, arrays, weights=None, *, devices=4):
    """Checks that rows on several devices have the values and gradients of one device.

    The loss has an argument `axis_name` if it combines rows. It has an argument `weights` if these
    are not all 1; then `weights` gives them. The number of rows is a multiple of the devices.
    """
    rows = len(next(iter(arrays.values())))
    counts = np.ones(rows, np.float32) if weights is None else np.float32(weights)
    signature = _parameters(loss)
    inputs = {**arrays, **({"weights": counts} if "weights" in signature else {})}
    student, others = split_inputs(inputs)

    def weighted(student, others, counts, axis_name):
        options = {"axis_name": axis_name} if "axis_name" in signature else {}
        values = loss(**student, **others, **options)
        return jnp.sum(values * counts), values

    def one(student, others, counts):
        (_, values), gradients = jax.value_and_grad(weighted, has_aux=True)(
            student, others, counts, None
        )
        return values, gradients

    def share(student, others, counts):
        (_, values), gradients = jax.value_and_grad(weighted, has_aux=True)(
            student, others, counts, "devices"
        )
        return values, gradients

    expected = jax.jit(one)(student, others, counts)
    cut = jax.tree.map(
        lambda x: np.reshape(x, (devices, rows // devices, *x.shape[1:])), (student, others, counts)
    )
    actual = jax.pmap(share, axis_name="devices", devices=jax.devices()[:devices])(*cut)
    actual = jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), actual)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), actual, expected
    )


def check_padding(loss, arrays, *, rows=2):
    """Checks that rows of weight 0 change neither the values of the others nor a gradient.

    The loss has an argument `weights`.
    """
    count = len(next(iter(arrays.values())))
    padded = {name: np.concatenate([x, 100 * x[:rows]]) for name, x in arrays.items()}
    padded |= {
        name: np.concatenate([x, x[:rows]]) for name, x in arrays.items() if x.dtype.kind in "ib"
    }
    weights = np.float32([1] * count + [0] * rows)
    values, gradients = value_and_gradients(
        functools.partial(loss, weights=weights), padded, weights
    )
    expected, wanted = value_and_gradients(loss, arrays)
    np.testing.assert_allclose(values[:count], expected, rtol=1e-4, atol=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient[:count], wanted[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(gradient[count:], 0)


def check_pytorch(loss, reference, arrays, *, rtol=1e-5, gradient_tolerance=1e-5):
    """Checks the mean of a loss, and its gradient, against a function of PyTorch in float64.

    Args:
      loss: the loss.
      reference: a function of tensors by the same names that returns the mean, a scalar.
      arrays: the arrays by name.
      rtol: relative tolerance of the mean.
      gradient_tolerance: tolerance of a gradient, relative to its largest element.
    """
    values, gradients = value_and_gradients(loss, arrays)
    tensors = jax.tree.map(_tensor, arrays)
    wanted, _ = split_inputs(tensors)
    for tensor in jax.tree.leaves(wanted):
        tensor.requires_grad_()
    expected = reference(**tensors)
    expected.backward()
    np.testing.assert_allclose(values.mean(), expected.item(), rtol=rtol, atol=1e-7)
    paths = jax.tree.leaves_with_path(wanted)
    for (path, tensor), gradient in zip(paths, jax.tree.leaves(gradients), strict=True):
        largest = tensor.grad.abs().max().item()
        assert largest > 0, path
        np.testing.assert_allclose(
            gradient, tensor.grad, rtol=0, atol=gradient_tolerance * largest, err_msg=str(path)
        )


def _tensor(array):
    array = np.asarray(array)
    return torch.tensor(array, dtype=torch.float64 if array.dtype.kind == "f" else None)


def _parameters(loss):
    return inspect.signature(loss).parameters
