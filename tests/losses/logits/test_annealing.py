import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from tests.support.logits import (
    LABELS,
    STUDENT,
    TEACHER,
    cross_entropy,
    kl,
    random_logits,
    softmax,
)


def test_annealed_mse_by_hand():
    # Phi = 1/2: the targets are (2, 0, -1) and (0.5, 1, 1.5).
    loss = losses.annealed_mse(STUDENT, TEACHER, 0.5)
    np.testing.assert_allclose(loss, [(1 + 4 + 1) / 3, (0.25 + 1 + 2.25) / 3], rtol=1e-6)
    # Phi = 1, the default: the targets are the teacher's logits.
    loss = losses.annealed_mse(STUDENT, TEACHER, class_reduction="sum")
    np.testing.assert_allclose(loss, [9 + 4 + 4, 1 + 4 + 0], rtol=1e-6)


def test_a_class_that_both_models_exclude_has_no_error():
    student, teacher = (np.float32([*row, -np.inf]) for row in (STUDENT[0], TEACHER[0]))

    def loss(student, reduction):
        return losses.annealed_mse(student, teacher, class_reduction=reduction)

    # By hand, as above: 9 + 4 + 4, divided by the four classes.
    for reduction, divisor in (("sum", 1), ("mean", 4)):
        value, gradient = jax.value_and_grad(loss)(student, reduction)
        np.testing.assert_allclose(value, 17 / divisor, rtol=1e-6)
        expected = 2 * (STUDENT[0] - TEACHER[0]) / divisor
        np.testing.assert_allclose(gradient, [*expected, 0], rtol=1e-6)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 7), ("sum", 1)])
@pytest.mark.parametrize("phi", [0.0, 0.1, 0.4, 1.0])
def test_annealed_mse_gradient_is_the_closed_form(phi, reduction, divisor):
    student, teacher, _ = random_logits()
    gradient = jax.grad(
        lambda logits: losses.annealed_mse(
            logits, jnp.float32(teacher), phi, class_reduction=reduction
        ).sum()
    )(jnp.float32(student))
    np.testing.assert_allclose(
        gradient, 2 * (student - phi * teacher) / divisor, rtol=1e-5, atol=1e-5
    )


def test_weighted_annealed_mse_by_hand():
    # The weights are 3/4 and 1/4 at T = 2. d = (1, 5), with the mean 2 and the variance 3.
    teacher = 2 * np.log(np.float32([[0.75, 0.25]]))
    loss = losses.weighted_annealed_mse(teacher / 2 + [[1.0, 5.0]], teacher, 0.5, 2.0)
    np.testing.assert_allclose(loss, [3 / 4 * 1 + 1 / 4 * 9], rtol=1e-5)


def test_weighted_annealed_mse_is_the_divergence_to_second_order():
    _, teacher, _ = random_logits()
    error = np.random.default_rng(1).normal(size=teacher.shape)
    ratios = []
    for size in (1e-1, 1e-2):
        student = jnp.float32(teacher + size * error)
        loss = losses.weighted_annealed_mse(student, jnp.float32(teacher), temperature=3.0)
        exact = 2 * kl(np.float64(student), np.float64(teacher), 3.0)  # With the factor T^2.
        ratios.append(np.abs(loss / exact - 1).max())
    # The next order is smaller by the size of the error.
    assert ratios[0] < 0.05
    assert ratios[1] < 0.005


def test_weighted_annealed_mse_ignores_the_mean_and_excluded_classes():
    student, teacher, _ = (jnp.float32(x) for x in random_logits())
    value = losses.weighted_annealed_mse(student, teacher, 0.3, 2.0)
    moved = losses.weighted_annealed_mse(student + 5, teacher, 0.3, 2.0)
    np.testing.assert_allclose(moved, value, rtol=1e-4)
    where = jnp.arange(student.shape[-1]) < 4
    part = losses.weighted_annealed_mse(student[..., :4], teacher[..., :4], 0.3, 2.0)
    masked = losses.weighted_annealed_mse(student, teacher, 0.3, 2.0, where=where)
    np.testing.assert_allclose(masked, part, rtol=1e-5)
    excluded = (jnp.where(where, logits, -jnp.inf) for logits in (student, teacher))
    loss, gradient = jax.value_and_grad(
        lambda z_s, z_t: losses.weighted_annealed_mse(z_s, z_t, 0.3, 2.0).sum()
    )(*excluded)
    np.testing.assert_allclose(loss, part.sum(), rtol=1e-5)
    assert np.isfinite(gradient).all()
    # By hand: 2 p_c (d_c - sum_k p_k d_k).
    p = softmax(np.float64(teacher[..., :4]) / 2)
    d = np.float64(student[..., :4]) - 0.3 * np.float64(teacher[..., :4])
    expected = 2 * p * (d - (p * d).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(gradient[..., :4], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("phi", [0.1, 0.4, 1.0])
def test_annealed_mse_equals_numpy(phi):
    student, teacher, _ = random_logits()
    expected = np.square(student - phi * teacher).mean(axis=-1)
    loss = losses.annealed_mse(jnp.float32(student), jnp.float32(teacher), phi)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_continuation_by_hand():
    # Phi = 1/2: the errors are 2 and 7/6 (as above), and the margin is 3 Phi = 1.5.
    hard = np.log([1 + np.e + np.exp(-1), 1 + 2 * np.exp(-3)])
    loss = losses.continuation(STUDENT, TEACHER, LABELS, 0.5, psi=0.25, margin=3.0)
    np.testing.assert_allclose(loss, 0.25 * hard + 0.75 * np.array([0.5, 0.0]), rtol=1e-6)


@pytest.mark.parametrize(("phi", "psi", "margin"), [(0.2, 0.3, 0.0), (1.0, 0.9, 2.0)])
def test_continuation_equals_numpy(phi, psi, margin):
    student, teacher, labels = random_logits()
    error = np.square(student - phi * teacher).sum(axis=-1)
    soft = np.maximum(0, error - margin * phi)
    expected = psi * cross_entropy(student, labels) + (1 - psi) * soft
    loss = losses.continuation(
        jnp.float32(student),
        jnp.float32(teacher),
        labels,
        phi,
        psi=psi,
        margin=margin,
        class_reduction="sum",
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_continuation_equals_annealing_kd_for_psi_0_and_1():
    annealed = losses.annealed_mse(STUDENT, TEACHER, 0.75)
    hard = losses.cross_entropy(STUDENT, LABELS)
    for psi, expected in ((0.0, annealed), (1.0, hard)):
        loss = losses.continuation(STUDENT, TEACHER, LABELS, 0.75, psi=psi, margin=0.0)
        np.testing.assert_array_equal(loss, expected)
    # One psi per row.
    psi = jnp.array([0.0, 1.0])
    loss = losses.continuation(STUDENT, TEACHER, LABELS, 0.75, psi=psi, margin=0.0)
    np.testing.assert_array_equal(loss, [annealed[0], hard[1]])


def test_continuation_has_no_gradient_within_the_margin():
    def loss(logits):
        return losses.continuation(logits, TEACHER, LABELS, 0.5, psi=0.0, margin=3.0).sum()

    gradient = jax.grad(loss)(STUDENT)
    assert jnp.abs(gradient[0]).max() > 0
    np.testing.assert_array_equal(gradient[1], 0)  # Its error 7/6 is below the margin 1.5.


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: losses.continuation(s, t, LABELS, 1.0, psi=0.5, margin=0.1),
        lambda s, t: losses.annealed_mse(s, t, 0.5),
        lambda s, t: losses.kl(s, t, 3.0),
    ],
)
def test_teacher_logits_get_no_gradient(loss):
    student_gradient, teacher_gradient = jax.grad(lambda s, t: loss(s, t).sum(), argnums=(0, 1))(
        STUDENT, TEACHER
    )
    assert jnp.abs(student_gradient).max() > 0.1
    np.testing.assert_array_equal(teacher_gradient, jnp.zeros_like(TEACHER))


def test_bfloat16_logits_give_float32_losses():
    student, teacher = STUDENT.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16)
    # These logits are exact in bfloat16, so that the losses are equal.
    for loss, expected in (
        (losses.annealed_mse(student, teacher, 0.5), losses.annealed_mse(STUDENT, TEACHER, 0.5)),
        (
            losses.kl(student, teacher, 3.0),
            losses.kl(STUDENT, TEACHER, 3.0),
        ),
        (
            losses.cross_entropy(student, jnp.array([0, 2])),
            losses.cross_entropy(STUDENT, jnp.array([0, 2])),
        ),
    ):
        assert loss.dtype == jnp.float32
        np.testing.assert_array_equal(loss, expected)


def test_wrong_shapes_dtypes_and_reductions_raise():
    with pytest.raises(ValueError, match=r"student's shape \(2, 3\), got \(2, 1\)"):
        losses.annealed_mse(STUDENT, TEACHER[:, :1])
    with pytest.raises(ValueError, match=r"student's shape \(2, 3\), got \(3,\)"):
        losses.kl(STUDENT, TEACHER[0], 1.0)
    with pytest.raises(ValueError, match=r"labels: expected shape \(2,\) .*got \(2, 1\)"):
        losses.cross_entropy(STUDENT, jnp.zeros((2, 1), jnp.int32))
    with pytest.raises(ValueError, match="labels: expected integers, got float32"):
        losses.cross_entropy(STUDENT, jnp.zeros(2))
    with pytest.raises(ValueError, match="'mean' or 'sum', got 'none'"):
        losses.annealed_mse(STUDENT, TEACHER, class_reduction="none")


@pytest.mark.parametrize(("psi", "margin"), [(0.0, 0.0), (0.25, 0.1), (1.0, 0.0)])
def test_continuation_of_a_regression_equals_numpy(psi, margin):
    rng = np.random.default_rng(0)
    student, teacher, labels = rng.normal(size=(3, 6))
    loss = losses.continuation(
        jnp.float32(student)[:, None],
        jnp.float32(teacher)[:, None],
        jnp.float32(labels),
        0.5,
        psi=psi,
        margin=margin,
    )
    soft = np.maximum(np.square(student - 0.5 * teacher) - margin * 0.5, 0)
    expected = psi * np.square(student - labels) + (1 - psi) * soft
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,), (2, 3)])
def test_continuation_rejects_a_psi_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"psi: expected a scalar or shape \(2,\), got"):
        losses.continuation(STUDENT, TEACHER, LABELS, 1.0, psi=jnp.ones(shape), margin=0.0)


@pytest.mark.parametrize("psi", [-0.1, 1.1, np.nan, jnp.array([0.5, 2.0])])
def test_continuation_rejects_a_psi_out_of_range(psi):
    with pytest.raises(ValueError, match="psi: expected values from 0 to 1, got"):
        losses.continuation(STUDENT, TEACHER, LABELS, 1.0, psi=psi, margin=0.0)


def test_temperature_and_psi_may_be_traced():
    traced = jax.jit(losses.kl)(STUDENT, TEACHER, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(traced, losses.kl(STUDENT, TEACHER, np.array([1.0, 2.0])), rtol=1e-6)

    def loss(psi):
        return losses.continuation(STUDENT, TEACHER, LABELS, 1.0, psi=psi, margin=0.0)

    np.testing.assert_allclose(jax.jit(loss)(jnp.float32(0.5)), loss(0.5), rtol=1e-6)


WITH_FACTOR = pytest.mark.parametrize(
    "loss",
    [
        losses.annealed_mse,
        lambda s, t, f: losses.continuation(s, t, LABELS, f, psi=0.5, margin=0.0),
    ],
    ids=["annealed_mse", "continuation"],
)


@WITH_FACTOR
@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,), (2, 3)])
def test_losses_reject_a_factor_of_another_shape(loss, shape):
    with pytest.raises(ValueError, match=r"factor: expected a scalar or shape \(2,\), got"):
        loss(STUDENT, TEACHER, jnp.ones(shape))


@WITH_FACTOR
@pytest.mark.parametrize("factor", [-0.1, 1.1, np.nan, np.array([0.5, 2.0]), jnp.float32(-1)])
def test_losses_reject_a_factor_out_of_range(loss, factor):
    with pytest.raises(ValueError, match="factor: expected values from 0 to 1, got"):
        loss(STUDENT, TEACHER, factor)


@pytest.mark.parametrize("margin", [-0.1, np.nan, jnp.array([0.5, -2.0])])
def test_continuation_rejects_a_negative_margin(margin):
    with pytest.raises(ValueError, match="margin: expected finite values of at least 0, got"):
        losses.continuation(STUDENT, TEACHER, LABELS, 1.0, psi=0.5, margin=margin)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_the_factor_may_be_traced_and_differ_between_rows(transform):
    # The errors are 2 and 5/3, as in the test by hand, and the margins are 0.5 and 0.25.
    factors, margins = jnp.array([0.5, 1.0]), jnp.array([1.0, 0.25])
    error = transform(losses.annealed_mse)(STUDENT, TEACHER, factors)
    np.testing.assert_allclose(error, [2, 5 / 3], rtol=1e-6)

    def soft(factor, margin):
        return losses.continuation(STUDENT, TEACHER, LABELS, factor, psi=0.0, margin=margin)

    loss = transform(soft)(factors, margins)
    np.testing.assert_allclose(loss, [2 - 0.5, 5 / 3 - 0.25], rtol=1e-6)
