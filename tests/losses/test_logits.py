import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from tests.support.logits import (
    LABELS,
    STUDENT,
    TEACHER,
    cross_entropy,
    kl,
    log_softmax,
    random_logits,
)


def test_annealed_mse_by_hand():
    # Phi = 1/2: the targets are (2, 0, -1) and (0.5, 1, 1.5).
    loss = losses.annealed_mse(STUDENT, TEACHER, 0.5)
    np.testing.assert_allclose(loss, [(1 + 4 + 1) / 3, (0.25 + 1 + 2.25) / 3], rtol=1e-6)
    # Phi = 1, the default: the targets are the teacher's logits.
    loss = losses.annealed_mse(STUDENT, TEACHER, class_reduction="sum")
    np.testing.assert_allclose(loss, [9 + 4 + 4, 1 + 4 + 0], rtol=1e-6)


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


@pytest.mark.parametrize("phi", [0.1, 0.4, 1.0])
def test_annealed_mse_equals_numpy(phi):
    student, teacher, _ = random_logits()
    expected = np.square(student - phi * teacher).mean(axis=-1)
    loss = losses.annealed_mse(jnp.float32(student), jnp.float32(teacher), phi)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


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
    with pytest.raises(ValueError, match="margin: expected values of at least 0, got"):
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
