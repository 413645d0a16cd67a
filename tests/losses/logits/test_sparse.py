"""Losses against the teacher's largest logits: identities, PyTorch, and numbers by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses, schedules
from akd_jax.types import Batch, Clock, Outputs, TopK
from experiments.benchmarks.losses import tokens as pytorch
from tests.support.logits import kl, random_logits
from tests.support.loss_checks import (
    check_extreme_logits,
    check_finite,
    check_pytorch,
    check_transforms,
    value_and_gradients,
)

TAILS = pytest.mark.parametrize("tail", ["bin", "drop", "renormalise"])
STUDENT, TEACHER, _ = random_logits((4, 7))
Z_S, Z_T = jnp.float32(STUDENT), jnp.float32(TEACHER)

top_k_kl = jax.jit(losses.top_k_kl, static_argnames=("tail", "top_k"))
hinge_ranking = jax.jit(losses.hinge_ranking, static_argnames="top_k")
logistic_ranking = jax.jit(losses.logistic_ranking, static_argnames="top_k")


def of_logits(loss, **options):
    """A loss of the largest of the teacher's logits, as a function of all of them."""

    def function(student_logits, teacher_logits):
        return loss(student_logits, teacher_logits, **options)

    return function


@TAILS
@pytest.mark.parametrize("temperature", [1.0, np.float32([1, 2, 3, 4])])
def test_all_classes_give_the_dense_loss(tail, temperature):
    dense = functools.partial(losses.kl, temperature=temperature)
    expected = value_and_gradients(dense, {"student_logits": Z_S, "teacher_logits": Z_T})
    for teacher in (lambda z: z, lambda z: TopK.of(z, 7)):

        def loss(student_logits, teacher_logits, teacher=teacher):
            top = teacher(teacher_logits)
            return losses.top_k_kl(student_logits, top, temperature=temperature, tail=tail)

        actual = value_and_gradients(loss, {"student_logits": Z_S, "teacher_logits": Z_T})
        np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            actual[1]["student_logits"], expected[1]["student_logits"], rtol=1e-4, atol=1e-6
        )


def test_tails_by_hand():
    # p = (1/2, 1/4, 1/8, 1/8) and q = (1/4, 1/4, 1/4, 1/4), of which the first two are stored.
    top = TopK.of(jnp.log(jnp.float32([[0.5, 0.25, 0.125, 0.125]])), 2)
    student = jnp.zeros((1, 4))
    parts = np.array([0.5 * np.log(2), 0, 0.25 * np.log(0.25 / 0.5)])
    values = {tail: top_k_kl(student, top, tail=tail)[0] for tail in ("bin", "drop")}
    np.testing.assert_allclose(values["bin"], parts.sum(), rtol=1e-6)
    np.testing.assert_allclose(values["drop"], parts[:2].sum(), rtol=1e-6)
    # Renormalised: (2/3, 1/3) and (1/2, 1/2).
    expected = 2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3)
    value = top_k_kl(student, top, tail="renormalise")[0]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_dropped_tail_can_be_negative():
    student = jnp.log(jnp.float32([[0.7, 0.2, 0.05, 0.05]]))
    teacher = jnp.log(jnp.float32([[0.5, 0.2, 0.15, 0.15]]))
    value = top_k_kl(student, teacher, tail="drop", top_k=2)
    np.testing.assert_allclose(value, [0.5 * np.log(0.5 / 0.7)], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bins_lose_divergence_as_they_merge(temperature):
    dense = kl(STUDENT, TEACHER, temperature)
    bins = [top_k_kl(Z_S, Z_T, temperature=temperature, top_k=k) for k in (1, 3, 6)]
    # Data processing: fewer bins have less divergence.
    for fewer, more in zip(bins, [*bins[1:], dense + 1e-4], strict=True):
        assert (fewer >= 0).all() and (fewer <= more + 1e-5).all()
    # The exact bins of p and q in float64.
    p, q = (np.exp(z / temperature) for z in (TEACHER, STUDENT))
    p, q = (x / x.sum(axis=-1, keepdims=True) for x in (p, q))
    order = np.argsort(-p, axis=-1)[:, :3]
    p, q = (np.take_along_axis(x, order, axis=-1) for x in (p, q))
    p, q = (np.column_stack([x, 1 - x.sum(axis=-1)]) for x in (p, q))
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(bins[1], expected, rtol=1e-4)


@TAILS
def test_gradient_outside_of_the_largest_classes(tail):
    def total(student):
        return losses.top_k_kl(student, Z_T, tail=tail, top_k=3).sum()

    gradient = np.array(jax.jit(jax.grad(total))(Z_S))
    outside = np.argsort(-TEACHER, axis=-1)[:, 3:]
    tails = np.take_along_axis(gradient, outside, axis=-1)
    if tail == "renormalise":
        np.testing.assert_array_equal(tails, 0)
    else:
        assert (np.abs(tails) > 1e-6).all()
    if tail != "drop":
        np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-6)


def test_bins_of_a_student_with_hardly_any_tail():
    # q of the tail is exp(-60), which 1 - sum of the others would round to 0.
    student = jnp.float32([[0.0, 0.0, -60.0, -60.0]])
    teacher = jnp.log(jnp.float32([[0.4, 0.4, 0.1, 0.1]]))
    value, gradient = jax.value_and_grad(lambda z: top_k_kl(z, teacher, top_k=2).sum())(student)
    expected = 0.8 * np.log(0.4 / 0.5) + 0.2 * (np.log(0.2) + 60)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, [[0.1, 0.1, -0.1, -0.1]], rtol=1e-5)


def test_bins_of_a_teacher_without_a_tail():
    # Values that were rounded to bfloat16 can have more mass than all logits together.
    top = TopK(jnp.float32([[20.06, 10.0]]), jnp.int32([[0, 1]]), jnp.float32([20.0]))
    value, gradient = jax.value_and_grad(lambda z: top_k_kl(z, top).sum())(jnp.zeros((1, 4)))
    np.testing.assert_allclose(value, np.log(4), rtol=1e-2)
    np.testing.assert_allclose(gradient, [[-0.75, 0.25, 0.25, 0.25]], atol=1e-4)


@TAILS
def test_top_k_kl_equals_pytorch(tail):
    arrays = pytorch.largest_logits(6, 20, 5)
    options = {"tail": tail, "temperature": 2.0 if tail == "renormalise" else 1.0}
    check_pytorch(
        pytorch.with_top_k(losses.top_k_kl, **options),
        functools.partial(pytorch.top_k_kl, **options),
        arrays,
        rtol=1e-4,
        gradient_tolerance=1e-4,
    )


def test_rankings_equal_pytorch():
    arrays = pytorch.largest_logits(6, 20, 5)
    check_pytorch(
        pytorch.with_top_k(losses.hinge_ranking, margin=0.5),
        functools.partial(pytorch.hinge_ranking, margin=0.5),
        arrays,
    )
    check_pytorch(pytorch.with_top_k(losses.logistic_ranking), pytorch.logistic_ranking, arrays)


LOSSES = pytest.mark.parametrize(
    "loss",
    [
        *(of_logits(losses.top_k_kl, tail=x, top_k=3) for x in ("bin", "drop", "renormalise")),
        of_logits(losses.hinge_ranking),
        of_logits(losses.logistic_ranking),
    ],
    ids=["bin", "drop", "renormalise", "hinge", "logistic"],
)


@LOSSES
def test_losses_are_finite_at_extremes(loss):
    check_extreme_logits(jax.jit(loss))


def test_transformations_and_rows_without_weight():
    loss = of_logits(losses.top_k_kl, top_k=3)
    arrays = {"student_logits": Z_S, "teacher_logits": Z_T}
    check_transforms(jax.jit(loss), arrays)
    check_transforms(jax.jit(of_logits(losses.hinge_ranking)), arrays)
    check_finite(loss, arrays, weights=np.zeros(4))


def test_rankings_by_hand():
    # The pairs are (0, 1), (0, 2), with differences 1 and -2. Classes 1 and 2 are equal.
    student, teacher = jnp.float32([[0, -1, 2]]), jnp.float32([[3, 1, 1]])
    np.testing.assert_allclose(hinge_ranking(student, teacher, margin=1.5), [(0.5 + 3.5) / 2])
    expected = (np.log1p(np.exp(-1)) + np.log1p(np.exp(2))) / 2
    np.testing.assert_allclose(logistic_ranking(student, teacher), [expected], rtol=1e-6)
    # With two classes, the pair is (0, 1).
    np.testing.assert_allclose(hinge_ranking(student, teacher, margin=1.5, top_k=2), [0.5])
    np.testing.assert_array_equal(logistic_ranking(student, jnp.zeros((1, 3))), [0])
    # An excluded class forms no pair.
    excluded = jnp.float32([[0, -1, -np.inf]])
    np.testing.assert_array_equal(hinge_ranking(excluded, teacher, margin=1.5), [0.5])


def test_logistic_ranking_at_equal_logits():
    """The logistic function of 0 is one half, and it saturates without an overflow."""
    teacher = jnp.float32([[2, 1]])

    def gradient(logits):
        return jax.grad(lambda z: logistic_ranking(z, teacher).sum())(jnp.float32([logits]))

    np.testing.assert_array_equal(gradient([3, 3]), [[-0.5, 0.5]])
    np.testing.assert_array_equal(gradient([-1e4, 1e4]), [[-1, 1]])
    np.testing.assert_array_equal(gradient([1e4, -1e4]), [[0, 0]])


def test_order_of_the_teacher_gives_no_hinge_loss():
    order = jnp.argsort(jnp.argsort(Z_T)).astype(jnp.float32)
    np.testing.assert_array_equal(hinge_ranking(order, Z_T, margin=1.0, top_k=0), 0)
    assert (hinge_ranking(order, Z_T, margin=1.5, top_k=0) > 0).all()


def test_stored_and_live_teachers_are_bound_alike():
    batch = Batch(np.zeros(4), np.zeros(4, np.int32), np.ones(4, np.float32))
    top = Outputs(Z_T[:, :0], top_k=TopK.of(Z_T, 5))

    def values(loss, teacher):
        terms = jax.jit(loss)(Outputs(Z_S), {"teacher": teacher}, batch, Clock.at(epoch=1))
        return next(iter(terms.values())).values

    temperature = schedules.linear(4.0, 1.0, epochs=3)
    for loss in (
        losses.bind(losses.top_k_kl, top_k=3),
        losses.bind(
            losses.top_k_kl, top_k=3, tail="renormalise", temperature=temperature, scale=False
        ),
        losses.bind(losses.hinge_ranking, top_k=5),
    ):
        np.testing.assert_allclose(values(loss, top), values(loss, Outputs(Z_T)), rtol=1e-5)
    # `compose` binds a function by the name of its parameter.
    actual = values(losses.compose(order=(1.0, losses.logistic_ranking)), top)
    np.testing.assert_allclose(actual, logistic_ranking(Z_S, TopK.of(Z_T, 5)), rtol=1e-6)


TOP = TopK.of(Z_T, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.top_k_kl(Z_S, TOP, tail="none"),
            "tail: expected 'bin', 'drop' or 'renormalise', got 'none'",
        ),
        (
            lambda: losses.top_k_kl(Z_S, TOP, temperature=2.0),
            "temperature: expected 1 for the tail 'bin' of a TopK, .* got 2.0; use tail='renorm",
        ),
        (
            lambda: jax.jit(lambda t: losses.top_k_kl(Z_S, TOP, temperature=t, tail="drop"))(1.0),
            "temperature: expected 1 for the tail 'drop' of a TopK, .* got a traced value; use",
        ),
        (
            lambda: losses.top_k_kl(Z_S, TOP, temperature=0.0),
            "temperature: expected finite values greater than 0, got 0.0",
        ),
        (
            lambda: losses.top_k_kl(Z_S, TOP, temperature=np.ones(7)),
            r"temperature: expected a scalar or shape \(4,\), got shape \(7,\)",
        ),
        (
            lambda: losses.top_k_kl(Z_S[:, :2], TOP),
            r"teacher_top_k: expected values and indices of 1 to 2 classes .* got shapes \(4, 3\)",
        ),
        (
            lambda: losses.hinge_ranking(Z_S[:3], TOP),
            r"teacher_top_k: expected .* for each of the rows \(3,\), got shapes \(4, 3\) and",
        ),
        (
            lambda: losses.top_k_kl(Z_S, TOP.replace(log_sum_exp=TOP.log_sum_exp[:, None])),
            r"teacher_top_k: expected one log_sum_exp for each of the rows .*, got shape \(4, 1\)",
        ),
        (
            lambda: losses.logistic_ranking(Z_S, Z_T[:, :6]),
            r"teacher_top_k: expected the student's shape \(4, 7\) .* TopK, got \(4, 6\)",
        ),
        (
            lambda: losses.logistic_ranking(Z_S, TOP.replace(indices=TOP.indices + 7)),
            "teacher_top_k.indices: expected classes from 0 to 6, got ",
        ),
        (
            lambda: losses.hinge_ranking(Z_S, TOP, margin=-1.0),
            "margin: expected finite values of at lea",
        ),
        (lambda: losses.logistic_ranking(Z_S, TOP, top_k=-1), "top_k: expected at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)
