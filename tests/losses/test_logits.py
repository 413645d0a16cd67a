import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses

# Two examples, three classes; small enough to work by hand.
STUDENT = jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
TEACHER = jnp.array([[4.0, 0.0, -2.0], [1.0, 2.0, 3.0]])


@pytest.fixture
def random_logits():
    rng = np.random.default_rng(0)
    shape = (4, 5, 7)  # [B, L, C]: a row is a token.
    return 3 * rng.normal(size=shape), 3 * rng.normal(size=shape), rng.integers(0, 7, shape[:-1])


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def test_annealed_mse_by_hand():
    # k = 0 of tau_max 2: Phi = 1/2, targets (2, 0, -1) and (0.5, 1, 1.5).
    loss = losses.annealed_mse(STUDENT, TEACHER, 0, 2)
    np.testing.assert_allclose(loss, [(1 + 4 + 1) / 3, (0.25 + 1 + 2.25) / 3], rtol=1e-6)
    # k = 1: Phi = 1, the teacher's logits.
    loss = losses.annealed_mse(STUDENT, TEACHER, 1, 2, class_reduction="sum")
    np.testing.assert_allclose(loss, [9 + 4 + 4, 1 + 4 + 0], rtol=1e-6)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 7), ("sum", 1)])
@pytest.mark.parametrize(("k", "max_temperature"), [(0, 1), (0, 10), (6, 7), (3, 10)])
def test_annealed_mse_gradient_is_the_closed_form(
    random_logits, k, max_temperature, reduction, divisor
):
    student, teacher, _ = random_logits
    gradient = jax.grad(
        lambda logits: losses.annealed_mse(
            logits, jnp.float32(teacher), k, max_temperature, class_reduction=reduction
        ).sum()
    )(jnp.float32(student))
    phi = 1 - (max_temperature - k - 1) / max_temperature
    np.testing.assert_allclose(
        gradient, 2 * (student - phi * teacher) / divisor, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("k", "max_temperature"), [(0, 1), (0, 10), (6, 7), (3, 10)])
def test_annealed_mse_equals_numpy(random_logits, k, max_temperature):
    student, teacher, _ = random_logits
    phi = 1 - (max_temperature - k - 1) / max_temperature
    expected = np.square(student - phi * teacher).mean(axis=-1)
    loss = losses.annealed_mse(jnp.float32(student), jnp.float32(teacher), k, max_temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_distillation_kl_by_hand():
    # Teacher (3/4, 1/4), student (1/2, 1/2), both at T = 2, from logits T log p.
    teacher, student = 2 * jnp.log(jnp.array([0.75, 0.25])), jnp.zeros(2)
    expected = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(losses.distillation_kl(student, teacher, 2.0), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_distillation_kl_equals_numpy_and_optax(random_logits, temperature):
    student, teacher, _ = random_logits
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    expected = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    student, teacher = jnp.float32(student), jnp.float32(teacher)
    loss = losses.distillation_kl(student, teacher, temperature)
    np.testing.assert_allclose(loss, expected, rtol=2e-4, atol=1e-5)
    optax_divergence = optax.losses.kl_divergence(
        jax.nn.log_softmax(student / temperature), jax.nn.softmax(teacher / temperature)
    )
    np.testing.assert_allclose(loss, temperature**2 * optax_divergence, rtol=2e-4, atol=1e-5)


def test_distillation_kl_plus_teacher_entropy_is_cross_entropy_at_temperature_1():
    teacher = jax.nn.softmax(TEACHER)
    entropy = -(teacher * jnp.log(teacher)).sum(axis=-1)
    np.testing.assert_allclose(
        losses.distillation_kl(STUDENT, TEACHER, 1.0) + entropy,
        optax.losses.softmax_cross_entropy(STUDENT, teacher),
        rtol=1e-6,
    )


def test_distillation_kl_tends_to_half_the_squared_error_of_centred_logits():
    # Hinton et al. (2015), section 2.1: the high-temperature limit, divided by C.
    def centre(logits):
        return logits - logits.mean(axis=-1, keepdims=True)

    limit = jnp.square(centre(STUDENT) - centre(TEACHER)).mean(axis=-1) / 2
    np.testing.assert_allclose(losses.distillation_kl(STUDENT, TEACHER, 100.0), limit, rtol=0.05)


def test_cross_entropy_by_hand():
    loss = losses.cross_entropy(jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]])), jnp.array([0, 1]))
    np.testing.assert_allclose(loss, -np.log([0.2, 0.5]), rtol=1e-6)


def test_cross_entropy_equals_numpy(random_logits):
    student, _, labels = random_logits
    expected = -np.take_along_axis(log_softmax(student), labels[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(
        losses.cross_entropy(jnp.float32(student), labels), expected, rtol=1e-5
    )


LABELS = jnp.array([0, 2])


def test_continuation_by_hand():
    # k = 0 of tau_max 2: Phi = 1/2, errors 2 and 7/6 (as above), margin 3 * Phi = 1.5.
    hard = np.log([1 + np.e + np.exp(-1), 1 + 2 * np.exp(-3)])
    loss = losses.continuation(STUDENT, TEACHER, LABELS, 0, 2, psi=0.25, margin=3.0)
    np.testing.assert_allclose(loss, 0.25 * hard + 0.75 * np.array([0.5, 0.0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("k", "max_temperature", "psi", "margin"), [(0, 5, 0.3, 0.0), (4, 5, 0.9, 2.0)]
)
def test_continuation_equals_numpy(random_logits, k, max_temperature, psi, margin):
    student, teacher, labels = random_logits
    phi = 1 - (max_temperature - k - 1) / max_temperature
    hard = -np.take_along_axis(log_softmax(student), labels[..., None], axis=-1)[..., 0]
    error = np.square(student - phi * teacher).sum(axis=-1)
    expected = psi * hard + (1 - psi) * np.maximum(0, error - margin * phi)
    loss = losses.continuation(
        jnp.float32(student),
        jnp.float32(teacher),
        labels,
        k,
        max_temperature,
        psi=psi,
        margin=margin,
        class_reduction="sum",
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_continuation_equals_annealing_kd_for_psi_0_and_1():
    annealed = losses.annealed_mse(STUDENT, TEACHER, 1, 3)
    hard = losses.cross_entropy(STUDENT, LABELS)
    for psi, expected in ((0.0, annealed), (1.0, hard)):
        loss = losses.continuation(STUDENT, TEACHER, LABELS, 1, 3, psi=psi, margin=0.0)
        np.testing.assert_array_equal(loss, expected)
    # One psi per row.
    psi = jnp.array([0.0, 1.0])
    loss = losses.continuation(STUDENT, TEACHER, LABELS, 1, 3, psi=psi, margin=0.0)
    np.testing.assert_array_equal(loss, [annealed[0], hard[1]])


def test_continuation_has_no_gradient_within_the_margin():
    def loss(logits):
        return losses.continuation(logits, TEACHER, LABELS, 0, 2, psi=0.0, margin=3.0).sum()

    gradient = jax.grad(loss)(STUDENT)
    assert jnp.abs(gradient[0]).max() > 0
    np.testing.assert_array_equal(gradient[1], 0)  # Its error 7/6 is below the margin 1.5.


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: losses.continuation(s, t, LABELS, 1, 2, psi=0.5, margin=0.1),
        lambda s, t: losses.annealed_mse(s, t, 1, 2),
        lambda s, t: losses.distillation_kl(s, t, 3.0),
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
        (losses.annealed_mse(student, teacher, 0, 3), losses.annealed_mse(STUDENT, TEACHER, 0, 3)),
        (
            losses.distillation_kl(student, teacher, 3.0),
            losses.distillation_kl(STUDENT, TEACHER, 3.0),
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
        losses.annealed_mse(STUDENT, TEACHER[:, :1], 0, 1)
    with pytest.raises(ValueError, match=r"student's shape \(2, 3\), got \(3,\)"):
        losses.distillation_kl(STUDENT, TEACHER[0], 1.0)
    with pytest.raises(ValueError, match=r"labels: expected shape \(2,\) .*got \(2, 1\)"):
        losses.cross_entropy(STUDENT, jnp.zeros((2, 1), jnp.int32))
    with pytest.raises(ValueError, match="labels: expected integers, got float32"):
        losses.cross_entropy(STUDENT, jnp.zeros(2))
    with pytest.raises(ValueError, match="'mean' or 'sum', got 'none'"):
        losses.annealed_mse(STUDENT, TEACHER, 0, 1, class_reduction="none")


def test_squared_error_by_hand():
    loss = losses.squared_error(jnp.array([[1.0], [-2.0]]), jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(loss, [0.25, 9.0], rtol=1e-6)
    assert loss.dtype == jnp.float32


@pytest.mark.parametrize("shape", [(4,), (4, 2), (1, 4), (4, 1, 1)])
def test_squared_error_does_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"expected shape \(4, 1\) for labels of shape \(4,\)"):
        losses.squared_error(jnp.zeros(shape), jnp.zeros(4))


def test_supervised_selects_the_loss_by_the_dtype_of_the_labels():
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    classes = losses.supervised(logits, jnp.array([1, 0]))
    np.testing.assert_allclose(classes, -np.log([0.8, 0.5]), rtol=1e-6)
    numbers = losses.supervised(jnp.array([[3.0], [-1.0]]), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(numbers, [4.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize(("psi", "margin"), [(0.0, 0.0), (0.25, 0.1), (1.0, 0.0)])
def test_continuation_of_a_regression_equals_numpy(psi, margin):
    rng = np.random.default_rng(0)
    student, teacher, labels = rng.normal(size=(3, 6))
    loss = losses.continuation(
        jnp.float32(student)[:, None],
        jnp.float32(teacher)[:, None],
        jnp.float32(labels),
        1,
        4,
        psi=psi,
        margin=margin,
    )
    soft = np.maximum(np.square(student - 0.5 * teacher) - margin * 0.5, 0)
    expected = psi * np.square(student - labels) + (1 - psi) * soft
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_distillation_kl_ignores_a_class_that_both_models_exclude():
    # The remaining classes are (3/4, 1/4) and (1/2, 1/2) at T = 2.
    teacher = jnp.array([2 * np.log(0.75), 2 * np.log(0.25), -np.inf])
    student = jnp.array([0.0, 0.0, -np.inf])
    loss = losses.distillation_kl(student, teacher, 2.0)
    np.testing.assert_allclose(loss, 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5)), rtol=1e-6)
    gradient = jax.grad(losses.distillation_kl)(student, teacher, 2.0)
    np.testing.assert_allclose(gradient, [2 * (0.5 - 0.75), 2 * (0.5 - 0.25), 0], atol=1e-6)


def test_distillation_kl_of_a_class_that_only_the_teacher_excludes():
    # p = (1, 0) and q = (1/2, 1/2): KL = log 2, and its gradient is q - p.
    teacher, student = jnp.array([0.0, -np.inf]), jnp.zeros(2)
    value, gradient = jax.value_and_grad(losses.distillation_kl)(student, teacher, 1.0)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [-0.5, 0.5], rtol=1e-6)


def test_distillation_kl_of_a_class_that_only_the_student_excludes():
    teacher, student = jnp.zeros(2), jnp.array([0.0, -np.inf])
    value, gradient = jax.value_and_grad(losses.distillation_kl)(student, teacher, 1.0)
    assert value == np.inf
    np.testing.assert_allclose(gradient, [0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize("excluded_by", ["teacher", "both"])
def test_excluded_classes_leave_the_gradient_of_the_temperature_finite(excluded_by):
    teacher = jnp.array([1.0, -1.0, -np.inf])
    student = jnp.array([0.5, 0.0, -np.inf if excluded_by == "both" else 0.0])
    gradient = jax.grad(losses.distillation_kl, argnums=2)(student, teacher, 2.0)
    assert np.isfinite(gradient)


def test_distillation_kl_of_a_nan_logit_is_nan():
    with jax.debug_nans(False):
        loss = losses.distillation_kl(jnp.array([0.0, jnp.nan]), jnp.zeros(2), 1.0)
    assert np.isnan(loss)


@pytest.mark.parametrize("difference", [1e-3, 1e-2, 1.0])
def test_distillation_kl_of_nearly_equal_logits_is_accurate(difference):
    rng = np.random.default_rng(0)
    teacher = np.float32(rng.normal(size=(200, 10)))
    student = np.float32(teacher + difference * rng.normal(size=teacher.shape))
    temperature = 20.0
    log_p = log_softmax(np.float64(teacher) / temperature)
    log_q = log_softmax(np.float64(student) / temperature)
    expected = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    loss = losses.distillation_kl(student, teacher, temperature)
    assert (np.asarray(loss) >= 0).all()
    np.testing.assert_allclose(loss, expected, rtol=1e-2)


@pytest.mark.parametrize("difference", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_distillation_kl_gradient_is_the_closed_form(difference, temperature):
    rng = np.random.default_rng(0)
    teacher = np.float32(3 * rng.normal(size=(50, 10)))
    student = np.float32(teacher + difference * rng.normal(size=teacher.shape))
    p = np.exp(log_softmax(np.float64(teacher) / temperature))
    q = np.exp(log_softmax(np.float64(student) / temperature))
    gradient = jax.grad(lambda z: losses.distillation_kl(z, teacher, temperature).sum())(student)
    np.testing.assert_allclose(gradient, temperature * (q - p), rtol=0, atol=1e-5)


def test_distillation_kl_of_equal_logits_is_exactly_zero():
    np.testing.assert_array_equal(losses.distillation_kl(STUDENT, STUDENT, 20.0), 0)


@pytest.mark.parametrize("as_array", [np.array, jnp.array])
@pytest.mark.parametrize("label", [-1, -100, 3, 1000])
def test_cross_entropy_rejects_labels_out_of_range(as_array, label):
    with pytest.raises(ValueError, match=rf"labels: expected .* from 0 to 2, got {label};"):
        losses.cross_entropy(STUDENT, as_array([0, label]))


@pytest.mark.parametrize("label", [-1, -100, 3, 1000])
def test_cross_entropy_of_traced_labels_out_of_range_is_nan(label):
    def total(logits, labels):
        return losses.cross_entropy(logits, labels).sum()

    with jax.debug_nans(False):
        values = jax.jit(losses.cross_entropy)(STUDENT, jnp.array([0, label]))
        gradient = jax.jit(jax.grad(total))(STUDENT, jnp.array([0, label]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])
    np.testing.assert_array_equal(np.isnan(gradient), [[False] * 3, [True] * 3])


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.supervised])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8])
def test_positions_with_the_ignore_index_have_no_loss_and_no_gradient(transform, loss, dtype):
    labels = jnp.array([1, -100], dtype)
    value_and_gradient = jax.value_and_grad(
        lambda z, y: loss(z, y, ignore_index=-100).sum(), argnums=0
    )
    value, gradient = transform(value_and_gradient)(STUDENT, labels)
    q = np.exp(log_softmax(np.asarray(STUDENT)))
    np.testing.assert_allclose(value, -np.log(q[0, 1]), rtol=1e-6)
    np.testing.assert_allclose(gradient, [q[0] - [0, 1, 0], [0, 0, 0]], rtol=1e-5)


def test_distillation_kl_takes_a_temperature_per_row():
    logits = np.float32(np.random.default_rng(0).normal(size=(2, 3, 3)))  # B = C = 3.
    temperatures = np.float32([1.0, 2.0, 5.0])
    expected = [
        losses.distillation_kl(logits[0][i], logits[1][i], float(temperature))
        for i, temperature in enumerate(temperatures)
    ]
    loss = losses.distillation_kl(logits[0], logits[1], temperatures)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,), (2, 3)])
def test_distillation_kl_rejects_a_temperature_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"temperature: expected a scalar or shape \(2,\), got"):
        losses.distillation_kl(STUDENT, TEACHER, jnp.ones(shape))


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.array([1.0, 0.0]), jnp.float32(0)])
def test_distillation_kl_rejects_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match="temperature: expected values greater than 0, got"):
        losses.distillation_kl(STUDENT, TEACHER, temperature)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,), (2, 3)])
def test_continuation_rejects_a_psi_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"psi: expected a scalar or shape \(2,\), got"):
        losses.continuation(STUDENT, TEACHER, LABELS, 0, 1, psi=jnp.ones(shape), margin=0.0)


@pytest.mark.parametrize("psi", [-0.1, 1.1, np.nan, jnp.array([0.5, 2.0])])
def test_continuation_rejects_a_psi_out_of_range(psi):
    with pytest.raises(ValueError, match="psi: expected values from 0 to 1, got"):
        losses.continuation(STUDENT, TEACHER, LABELS, 0, 1, psi=psi, margin=0.0)


def test_temperature_and_psi_may_be_traced():
    kl = jax.jit(losses.distillation_kl)(STUDENT, TEACHER, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(
        kl, losses.distillation_kl(STUDENT, TEACHER, np.array([1.0, 2.0])), rtol=1e-6
    )

    def loss(psi):
        return losses.continuation(STUDENT, TEACHER, LABELS, 0, 1, psi=psi, margin=0.0)

    np.testing.assert_allclose(jax.jit(loss)(jnp.float32(0.5)), loss(0.5), rtol=1e-6)


@pytest.mark.parametrize("max_temperature", [0, -1, 2.5])
@pytest.mark.parametrize(
    "loss",
    [
        losses.annealed_mse,
        lambda s, t, k, m: losses.continuation(s, t, LABELS, k, m, psi=0.5, margin=0.0),
    ],
)
def test_losses_reject_max_temperatures_other_than_positive_integers(loss, max_temperature):
    with pytest.raises(ValueError, match="max_temperature: expected an integer of at least 1"):
        loss(STUDENT, TEACHER, 0, max_temperature)


@pytest.mark.parametrize("shape", [(3,), (2, 1)])
def test_annealed_mse_rejects_temperature_steps_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"temperature_step: expected a scalar or shape \(2,\)"):
        losses.annealed_mse(STUDENT, TEACHER, jnp.zeros(shape, jnp.int32), 2)


CLASS_LOSSES = {
    "cross_entropy": lambda s, t, y, **kwargs: losses.cross_entropy(s, y, **kwargs),
    "distillation_kl": lambda s, t, y, **kwargs: losses.distillation_kl(s, t, 2.0, **kwargs),
    "annealed_mse": lambda s, t, y, **kwargs: losses.annealed_mse(s, t, 1, 4, **kwargs),
    "annealed_mse_sum": lambda s, t, y, **kwargs: losses.annealed_mse(
        s, t, 1, 4, class_reduction="sum", **kwargs
    ),
    "continuation": lambda s, t, y, **kwargs: losses.continuation(
        s, t, y, 1, 4, psi=0.25, margin=0.1, **kwargs
    ),
}
ALL_CLASS_LOSSES = pytest.mark.parametrize("loss", CLASS_LOSSES.values(), ids=CLASS_LOSSES)


@pytest.fixture
def masked_rows():
    """Logits [4, 7] whose classes 0, 2 and 5 are masked, with labels among the other four."""
    rng = np.random.default_rng(1)
    student, teacher = np.float32(3 * rng.normal(size=(2, 4, 7)))
    kept = np.array([1, 3, 4, 6])
    where = np.zeros(7, bool)
    where[kept] = True
    positions = rng.integers(0, 4, 4)
    return student, teacher, kept[positions], positions, where, kept


@ALL_CLASS_LOSSES
def test_masked_classes_equal_removed_classes(loss, masked_rows):
    student, teacher, labels, positions, where, kept = masked_rows
    student[:, ~where] = np.inf  # Masked logits may have any value.
    expected, sliced = jax.value_and_grad(
        lambda s: loss(s, teacher[:, kept], positions).sum(), argnums=0
    )(student[:, kept])

    def masked(s, t, y, mask):
        return loss(s, t, y, where=mask).sum()

    for transform in (lambda f: f, jax.jit):
        for mask in (where, np.broadcast_to(where, student.shape)):
            value, gradient = transform(jax.value_and_grad(masked))(student, teacher, labels, mask)
            np.testing.assert_allclose(value, expected, rtol=1e-5)
            np.testing.assert_allclose(gradient[:, kept], sliced, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(gradient[:, ~where], 0)


@ALL_CLASS_LOSSES
def test_a_row_without_a_valid_class_has_no_loss_and_no_gradient(loss, masked_rows):
    student, teacher, labels, _, where, _ = masked_rows
    mask = np.tile(where, (4, 1))
    mask[2] = False
    values, gradients = jax.jit(
        jax.vmap(jax.value_and_grad(lambda *args: loss(*args[:3], where=args[3])))
    )(student, teacher, labels, mask)
    assert values[2] == 0
    np.testing.assert_array_equal(gradients[2], 0)
    others = [0, 1, 3]
    np.testing.assert_allclose(
        values[np.array(others)],
        loss(student[others], teacher[others], labels[others], where=where),
        rtol=1e-5,
    )


@ALL_CLASS_LOSSES
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_axis_moves_the_classes(loss, random_logits, axis):
    student, teacher, labels = random_logits
    student, teacher = np.float32(student), np.float32(teacher)
    where = np.ones(student.shape, bool)
    where[..., 0] = labels == 0
    expected = loss(student, teacher, labels, where=where)
    moved = [np.moveaxis(array, -1, axis) for array in (student, teacher, where)]
    result = loss(moved[0], moved[1], labels, axis=axis, where=moved[2])
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_axis_applies_to_a_temperature_per_row():
    temperatures = np.float32([1.0, 3.0])
    np.testing.assert_allclose(
        losses.distillation_kl(STUDENT.T, TEACHER.T, temperatures, axis=0),
        losses.distillation_kl(STUDENT, TEACHER, temperatures),
        rtol=1e-6,
    )


def test_cross_entropy_of_a_masked_label_is_infinite():
    where = np.array([False, True, True])
    value, gradient = jax.value_and_grad(
        lambda z: losses.cross_entropy(z, jnp.array([0, 2]), where=where).sum()
    )(STUDENT)
    assert value == np.inf
    assert np.isfinite(gradient).all()


@ALL_CLASS_LOSSES
def test_a_mask_must_be_boolean_and_fit_the_logits(loss):
    with pytest.raises(ValueError, match="where: expected a boolean mask, got float32"):
        loss(STUDENT, TEACHER, LABELS, where=np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"where: expected a shape that broadcasts to \(2, 3\)"):
        loss(STUDENT, TEACHER, LABELS, where=np.ones(2, bool))


@pytest.mark.parametrize(
    "arguments", [{"where": np.ones(1, bool)}, {"axis": 0}, {"ignore_index": 0}]
)
def test_a_regression_has_no_classes_to_mask(arguments):
    with pytest.raises(
        ValueError, match="expected class indices together with axis, where or ignore_index"
    ):
        losses.supervised(jnp.zeros((4, 1)), jnp.zeros(4), **arguments)


def test_cross_entropy_of_logits_of_minus_infinity():
    # The remaining classes have the probabilities (1/4, 3/4).
    logits = jnp.array([[0.0, jnp.log(3.0), -jnp.inf]])
    value, gradient = jax.value_and_grad(lambda z: losses.cross_entropy(z, jnp.array([1])).sum())(
        logits
    )
    np.testing.assert_allclose(value, np.log(4 / 3), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.25, -0.25, 0.0]], rtol=1e-6)
    assert losses.cross_entropy(logits, jnp.array([2])) == np.inf
