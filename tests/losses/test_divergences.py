import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
    with pytest.raises(ValueError, match="temperature: expected values greater than 0, got"):
        losses.kl(STUDENT, TEACHER, temperature)
