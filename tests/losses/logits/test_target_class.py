import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from tests.support.logits import LABELS, STUDENT, TEACHER, log_softmax, random_logits

FUNCTIONS = [losses.dkd, losses.nkd, losses.wsld, losses.ofa]
# Compiled as a whole: that takes less time than the compilation of each of their operations.
dkd, nkd, wsld, ofa = map(jax.jit, FUNCTIONS)
kl, cross_entropy = jax.jit(losses.kl), jax.jit(losses.cross_entropy)
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_decouples_kl(temperature):
    student, teacher, labels = random_logits()
    student, teacher = np.float32(student), np.float32(teacher)
    p = np.exp(log_softmax(teacher / temperature))
    p_y = np.take_along_axis(p, labels[..., None], -1)[..., 0]
    expected = kl(student, teacher, temperature)
    loss = dkd(student, teacher, labels, temperature, alpha=1.0, beta=1 - p_y)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)
    of_label = dkd(student, teacher, labels, temperature, alpha=1.0, beta=0.0)
    of_others = dkd(student, teacher, labels, temperature, alpha=0.0, beta=1.0)
    np.testing.assert_allclose(of_label + (1 - p_y) * of_others, expected, rtol=2e-5)


def test_dkd_of_two_classes_is_kl_and_of_one_class_0():
    student, teacher, labels = STUDENT[:, :2], TEACHER[:, :2], jnp.array([1, 0])
    loss = dkd(student, teacher, labels)
    np.testing.assert_allclose(loss, kl(student, teacher), rtol=1e-5)
    np.testing.assert_array_equal(dkd(student[:, :1], teacher[:, :1], 0 * labels), 0)


def test_dkd_trains_a_student_that_is_far_off():
    # The student gives the label the probability exp(-500), for which float32 has no number.
    student, teacher = jnp.array([[-500.0, 0.0, 0.0]]), jnp.array([[50.0, 0.0, 0.0]])
    loss, gradient = jax.value_and_grad(
        lambda z: dkd(z, teacher, jnp.array([0]), 1.0, beta=1.0).sum()
    )(student)
    np.testing.assert_allclose(loss, 500 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1, 0.5, 0.5]], rtol=1e-6)


def test_nkd_by_hand():
    # p = (1/2, 3/8, 1/8) and q = (1/4, 1/4, 1/2): the others are (3/4, 1/4) and (1/3, 2/3).
    teacher, student = jnp.log(jnp.array([[4.0, 3.0, 1.0]])), jnp.log(jnp.array([[1.0, 1.0, 2.0]]))
    of_others = -0.75 * np.log(1 / 3) - 0.25 * np.log(2 / 3)
    loss = nkd(student, teacher, jnp.array([0]), gamma=2.0)
    np.testing.assert_allclose(loss, -0.5 * np.log(0.25) + 2 * of_others, rtol=1e-5)


def test_wsld_weighs_the_soft_cross_entropy():
    # Equal logits have the weight 1 - exp(-1), and the entropy of p as cross-entropy.
    p = np.exp(log_softmax(np.asarray(TEACHER) / 4))
    weight = 1 - np.exp(-1)
    loss, gradient = jax.value_and_grad(lambda z: wsld(z, TEACHER, LABELS).sum())(TEACHER)
    np.testing.assert_allclose(loss, -16 * weight * (p * np.log(p)).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    # The weight has no gradient, and is smaller where the student is better than the teacher.
    gradient = jax.grad(lambda z: wsld(z, TEACHER, LABELS).sum())(STUDENT)
    q = np.exp(log_softmax(np.asarray(STUDENT) / 4))
    ratio = cross_entropy(STUDENT, LABELS) / cross_entropy(TEACHER, LABELS)
    np.testing.assert_allclose(gradient, 4 * (1 - np.exp(-ratio))[:, None] * (q - p), rtol=1e-4)


def test_ofa_of_exponent_1_is_kl_and_the_entropy_of_the_teacher():
    p = jax.nn.softmax(TEACHER)
    expected = kl(STUDENT, TEACHER, 1.0) - (p * jnp.log(p)).sum(axis=-1)
    np.testing.assert_allclose(ofa(STUDENT, TEACHER, LABELS), expected, rtol=1e-5)


def test_ofa_raises_the_target_of_the_label():
    # p = (1/2, 1/2) and exponent 2: the targets are 3/2^2 - 1 = 5/4 and 1/4.
    student, teacher = jnp.log(jnp.array([[0.2, 0.8]])), jnp.zeros((1, 2))
    loss = ofa(student, teacher, jnp.array([0]), exponent=2.0)
    np.testing.assert_allclose(loss, [-1.25 * np.log(0.2) - 0.25 * np.log(0.8)], rtol=1e-5)


@every_function
def test_ignored_labels_and_those_out_of_range(function):
    labels = jnp.array([1, -100])
    value_and_gradient = jax.jit(
        jax.value_and_grad(lambda z: function(z, TEACHER, labels, ignore_index=-100).sum())
    )
    value, gradient = value_and_gradient(STUDENT)
    expected = jax.jit(function)(STUDENT[:1], TEACHER[:1], labels[:1])
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    assert np.abs(gradient[0]).max() > 0
    np.testing.assert_array_equal(gradient[1], 0)
    with pytest.raises(ValueError, match="labels: expected class indices from 0 to 2, got -100"):
        function(STUDENT, TEACHER, labels)
    with jax.debug_nans(False):
        values = jax.jit(function)(STUDENT, TEACHER, labels)
    np.testing.assert_array_equal(np.isnan(values), [False, True])


@every_function
def test_a_label_that_both_models_exclude_gives_finite_gradients(function):
    student, teacher = (z.at[:, 0].set(-jnp.inf) for z in (STUDENT, TEACHER))
    gradient = jax.jit(jax.grad(lambda z: function(z, teacher, jnp.array([0, 0])).sum()))(student)
    assert np.isfinite(gradient).all()


@every_function
def test_excluding_all_classes_but_the_label_gives_finite_gradients(function):
    student, teacher = (z.at[:, 1:].set(-jnp.inf) for z in (STUDENT, TEACHER))
    value, gradient = jax.jit(
        jax.value_and_grad(lambda z: function(z, teacher, jnp.array([0, 0])).sum())
    )(student)
    assert abs(value) < 1e-6
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "option", "expected"),
    [
        (losses.dkd, "alpha", "finite values of at least 0"),
        (losses.dkd, "beta", "finite values of at least 0"),
        (losses.dkd, "temperature", "finite values greater than 0"),
        (losses.nkd, "gamma", "finite values of at least 0"),
        (losses.nkd, "temperature", "finite values greater than 0"),
        (losses.wsld, "temperature", "finite values greater than 0"),
        (losses.ofa, "exponent", "finite values greater than 0"),
    ],
)
def test_options_are_checked(function, option, expected):
    with pytest.raises(ValueError, match=f"{option}: expected {expected}, got -1"):
        function(STUDENT, TEACHER, LABELS, **{option: -1.0})
    with pytest.raises(ValueError, match=rf"{option}: expected a scalar or shape \(2,\), got"):
        function(STUDENT, TEACHER, LABELS, **{option: jnp.ones((2, 1))})
