import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from akd_jax import losses
from tests.support.logits import (
    STUDENT,
    TEACHER,
    kl,
    log_softmax,
    random_logits,
)


def test_kl_by_hand():
    # Teacher (3/4, 1/4), student (1/2, 1/2), both at T = 2, from logits T log p.
    teacher, student = 2 * jnp.log(jnp.array([0.75, 0.25])), jnp.zeros(2)
    expected = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(losses.kl(student, teacher, 2.0), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kl_equals_numpy_and_optax(temperature):
    student, teacher, _ = random_logits()
    expected = kl(student, teacher, temperature)
    student, teacher = jnp.float32(student), jnp.float32(teacher)
    loss = losses.kl(student, teacher, temperature)
    np.testing.assert_allclose(loss, expected, rtol=2e-4, atol=1e-5)
    optax_divergence = optax.losses.kl_divergence(
        jax.nn.log_softmax(student / temperature), jax.nn.softmax(teacher / temperature)
    )
    np.testing.assert_allclose(loss, temperature**2 * optax_divergence, rtol=2e-4, atol=1e-5)


def test_kl_plus_teacher_entropy_is_cross_entropy_at_temperature_1():
    teacher = jax.nn.softmax(TEACHER)
    entropy = -(teacher * jnp.log(teacher)).sum(axis=-1)
    np.testing.assert_allclose(
        losses.kl(STUDENT, TEACHER, 1.0) + entropy,
        optax.losses.softmax_cross_entropy(STUDENT, teacher),
        rtol=1e-6,
    )


def test_kl_tends_to_half_the_squared_error_of_centred_logits():
    # Hinton et al. (2015), section 2.1: the high-temperature limit, divided by C.
    def centre(logits):
        return logits - logits.mean(axis=-1, keepdims=True)

    limit = jnp.square(centre(STUDENT) - centre(TEACHER)).mean(axis=-1) / 2
    np.testing.assert_allclose(losses.kl(STUDENT, TEACHER, 100.0), limit, rtol=0.05)


def test_kl_ignores_a_class_that_both_models_exclude():
    # The remaining classes are (3/4, 1/4) and (1/2, 1/2) at T = 2.
    teacher = jnp.array([2 * np.log(0.75), 2 * np.log(0.25), -np.inf])
    student = jnp.array([0.0, 0.0, -np.inf])
    loss = losses.kl(student, teacher, 2.0)
    np.testing.assert_allclose(loss, 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5)), rtol=1e-6)
    gradient = jax.grad(losses.kl)(student, teacher, 2.0)
    np.testing.assert_allclose(gradient, [2 * (0.5 - 0.75), 2 * (0.5 - 0.25), 0], atol=1e-6)


def test_kl_of_a_class_that_only_the_teacher_excludes():
    # p = (1, 0) and q = (1/2, 1/2): KL = log 2, and its gradient is q - p.
    teacher, student = jnp.array([0.0, -np.inf]), jnp.zeros(2)
    value, gradient = jax.value_and_grad(losses.kl)(student, teacher, 1.0)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [-0.5, 0.5], rtol=1e-6)


def test_kl_of_a_class_that_only_the_student_excludes():
    teacher, student = jnp.zeros(2), jnp.array([0.0, -np.inf])
    value, gradient = jax.value_and_grad(losses.kl)(student, teacher, 1.0)
    assert value == np.inf
    np.testing.assert_allclose(gradient, [0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize("excluded_by", ["teacher", "both"])
def test_excluded_classes_leave_the_gradient_of_the_temperature_finite(excluded_by):
    teacher = jnp.array([1.0, -1.0, -np.inf])
    student = jnp.array([0.5, 0.0, -np.inf if excluded_by == "both" else 0.0])
    gradient = jax.grad(losses.kl, argnums=2)(student, teacher, 2.0)
    assert np.isfinite(gradient)


def test_kl_of_a_nan_logit_is_nan():
    with jax.debug_nans(False):
        loss = losses.kl(jnp.array([0.0, jnp.nan]), jnp.zeros(2), 1.0)
    assert np.isnan(loss)


@pytest.mark.parametrize("difference", [1e-3, 1e-2, 1.0])
def test_kl_of_nearly_equal_logits_is_accurate(difference):
    rng = np.random.default_rng(0)
    teacher = np.float32(rng.normal(size=(200, 10)))
    student = np.float32(teacher + difference * rng.normal(size=teacher.shape))
    temperature = 20.0
    expected = kl(np.float64(student), np.float64(teacher), temperature)
    loss = losses.kl(student, teacher, temperature)
    assert (np.asarray(loss) >= 0).all()
    np.testing.assert_allclose(loss, expected, rtol=1e-2)


@pytest.mark.parametrize("difference", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_kl_gradient_is_the_closed_form(difference, temperature):
    rng = np.random.default_rng(0)
    teacher = np.float32(3 * rng.normal(size=(50, 10)))
    student = np.float32(teacher + difference * rng.normal(size=teacher.shape))
    p = np.exp(log_softmax(np.float64(teacher) / temperature))
    q = np.exp(log_softmax(np.float64(student) / temperature))
    gradient = jax.grad(lambda z: losses.kl(z, teacher, temperature).sum())(student)
    np.testing.assert_allclose(gradient, temperature * (q - p), rtol=0, atol=1e-5)


def test_kl_of_equal_logits_is_exactly_zero():
    np.testing.assert_array_equal(losses.kl(STUDENT, STUDENT, 20.0), 0)


def test_kl_takes_a_temperature_per_row():
    logits = np.float32(np.random.default_rng(0).normal(size=(2, 3, 3)))  # B = C = 3.
    temperatures = np.float32([1.0, 2.0, 5.0])
    expected = [
        losses.kl(logits[0][i], logits[1][i], float(temperature))
        for i, temperature in enumerate(temperatures)
    ]
    loss = losses.kl(logits[0], logits[1], temperatures)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,), (2, 3)])
def test_kl_rejects_a_temperature_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"temperature: expected a scalar or shape \(2,\), got"):
        losses.kl(STUDENT, TEACHER, jnp.ones(shape))


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.array([1.0, 0.0]), jnp.float32(0)])
def test_kl_rejects_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match="temperature: expected finite values greater than 0, got"):
        losses.kl(STUDENT, TEACHER, temperature)


def test_kl_has_temperature_4_and_its_square_by_default():
    expected = losses.kl(STUDENT, TEACHER, 4.0)
    np.testing.assert_array_equal(losses.kl(STUDENT, TEACHER), expected)
    np.testing.assert_array_equal(losses.kl(STUDENT, TEACHER, temperature=4), expected)
    np.testing.assert_allclose(losses.kl(STUDENT, TEACHER, scale=False), expected / 16, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [losses.reverse_kl, losses.generalized_jsd, losses.skew_kl, losses.skew_reverse_kl],
)
def test_scale_is_the_square_of_the_temperature(loss):
    scaled, plain = (loss(STUDENT, TEACHER, 3.0, scale=scale) for scale in (True, False))
    np.testing.assert_allclose(scaled, 9 * plain, rtol=1e-6)


def test_reverse_kl_exchanges_student_and_teacher():
    np.testing.assert_array_equal(
        losses.reverse_kl(STUDENT, TEACHER, 2.0), losses.kl(TEACHER, STUDENT, 2.0)
    )


def test_generalized_jsd_is_symmetric_at_one_half_only():
    def swapped(beta):
        return losses.generalized_jsd(TEACHER, STUDENT, beta=beta)

    def value(beta):
        return losses.generalized_jsd(STUDENT, TEACHER, beta=beta)

    np.testing.assert_allclose(value(0.5), swapped(0.5), rtol=1e-5)
    np.testing.assert_allclose(value(0.3), swapped(0.7), rtol=1e-5)
    assert (np.abs(value(0.3) - swapped(0.3)) > 1e-3).all()


def test_generalized_jsd_is_at_most_log_2():
    logits = np.float32([[80.0, -80.0], [0.0, 0.0]])
    values = losses.generalized_jsd(logits, logits[:, ::-1])
    np.testing.assert_allclose(values, [np.log(2), 0], rtol=1e-6, atol=1e-7)


def test_generalized_jsd_is_kl_at_0_and_reverse_kl_at_1():
    # One beta per row; between the ends the value divided by beta, or 1 - beta, has these limits.
    student, teacher = (np.tile(x[:1], (4, 1)) for x in (STUDENT, TEACHER))
    beta = np.float32([0, 1e-3, 1 - 1e-3, 1])
    value_and_gradient = jax.jit(
        jax.value_and_grad(lambda z, b: losses.generalized_jsd(z, teacher, 2.0, beta=b).sum())
    )
    _, gradient = value_and_gradient(student, beta)
    values = jax.jit(lambda b: losses.generalized_jsd(student, teacher, 2.0, beta=b))(beta)
    values = values / np.float32([1, 1e-3, 1e-3, 1])
    gradient = gradient / np.float32([[1], [1e-3], [1e-3], [1]])
    limits = losses.kl, losses.kl, losses.reverse_kl, losses.reverse_kl
    for i, limit in enumerate(limits):
        expected, slope = jax.jit(jax.value_and_grad(limit))(student[i], teacher[i], 2.0)
        tolerance = 1e-5 if i in (0, 3) else 1e-2
        np.testing.assert_allclose(values[i], expected, rtol=tolerance)
        np.testing.assert_allclose(gradient[i], slope, atol=tolerance)


@pytest.mark.parametrize(
    ("skewed", "plain"),
    [(losses.skew_kl, losses.kl), (losses.skew_reverse_kl, losses.reverse_kl)],
)
def test_a_skew_of_0_changes_nothing(skewed, plain):
    arrays = jnp.array([[0.0, 200.0, 1.0], [1.0, 2.0, 3.0]]), TEACHER  # The first is far off.
    actual = jax.jit(jax.value_and_grad(lambda *a: skewed(*a, skew=0.0).sum()))(*arrays)
    expected = jax.jit(jax.value_and_grad(lambda *a: plain(*a, 1.0).sum()))(*arrays)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("skewed", [losses.skew_kl, losses.skew_reverse_kl])
def test_the_skew_bounds_the_divergence(skewed):
    student, teacher = np.float32([90.0, 0.0, -90.0]), np.float32([-90.0, -np.inf, 90.0])
    np.testing.assert_allclose(skewed(student, teacher), -np.log(0.1), rtol=1e-5)


def test_total_variation_by_hand():
    teacher, student = jnp.log(jnp.array([0.75, 0.2, 0.05])), jnp.log(jnp.array([0.5, 0.25, 0.25]))
    value, gradient = jax.value_and_grad(losses.total_variation)(student, teacher)
    np.testing.assert_allclose(value, 0.25, rtol=1e-6)
    np.testing.assert_allclose(gradient, [-0.25, 0.125, 0.125], atol=1e-6)


def test_derivatives_equal_differences():
    # Also those with respect to the temperature, which reaches the teacher, and to the shares.
    def total(student, temperature, share):
        values = losses.kl(student, TEACHER, temperature)
        values += losses.reverse_kl(student, TEACHER, temperature)
        values += losses.skew_kl(student, TEACHER, temperature, skew=share)
        values += losses.skew_reverse_kl(student, TEACHER, temperature, skew=share)
        return values.sum()

    arguments = (STUDENT, jnp.float32(2.0), jnp.float32(0.3))
    check_grads(jax.jit(total), arguments, order=1, atol=0.01, rtol=0.01, eps=1e-2)


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        (losses.generalized_jsd, "beta"),
        (losses.skew_kl, "skew"),
        (losses.skew_reverse_kl, "skew"),
    ],
)
def test_shares_are_checked(loss, option):
    with pytest.raises(ValueError, match=f"{option}: expected values from 0 to 1, got 1.5"):
        loss(STUDENT, TEACHER, **{option: 1.5})
    with pytest.raises(ValueError, match=rf"{option}: expected a scalar or shape \(2,\), got"):
        loss(STUDENT, TEACHER, **{option: jnp.ones(3)})


def test_ttm_of_gamma_1_is_kl_at_temperature_1():
    expected = losses.kl(STUDENT, TEACHER, 1.0)
    np.testing.assert_allclose(losses.ttm(STUDENT, TEACHER, gamma=1.0), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.wttm(STUDENT, TEACHER, gamma=1.0), expected, rtol=1e-6)


def test_ttm_by_hand():
    # p = (16, 1) / 17, and gamma 1/2 gives t = (4, 1) / 5; the factor of wttm is 5 / sqrt(17).
    teacher = jnp.log(jnp.array([16.0, 1.0]))
    expected = 0.8 * np.log(1.6) + 0.2 * np.log(0.4)
    for loss, factor in ((losses.ttm, 1), (losses.wttm, 5 / np.sqrt(17))):
        value, gradient = jax.value_and_grad(lambda z, f=loss: f(z, teacher, gamma=0.5))(
            jnp.zeros(2)
        )
        np.testing.assert_allclose(value, factor * expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, factor * np.array([-0.3, 0.3]), rtol=1e-5)
    with pytest.raises(ValueError, match="gamma: expected finite values greater than 0, got 0"):
        losses.ttm(jnp.zeros(2), teacher, gamma=0)
