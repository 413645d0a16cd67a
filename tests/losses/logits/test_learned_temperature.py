"""A learned temperature, and sums of losses that are rescaled to the size of one of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses, schedules
from akd_jax.losses.logits.learned_temperature import reverse_gradient
from akd_jax.models.network import Model
from akd_jax.teachers.live import StoredTeacher
from akd_jax.training.state import init_loss
from akd_jax.types import Batch, Clock, Outputs
from experiments.benchmarks.losses import relations as references
from tests.support.loss_checks import check_pytorch, extreme_logits
from tests.support.steps import (
    Linear,
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)

STUDENT, TEACHERS = Linear(3), {"teacher": StoredTeacher("teacher")}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, size=8)
    weights[5:] = 0  # One device has a padding row, and another one only padding rows.
    return Batch(
        inputs=np.float32(rng.normal(size=(8, 4))),
        labels=np.int32(rng.integers(0, 3, size=8)),
        weights=np.float32(weights),
        stored={"teacher": Outputs(np.float32(3 * rng.normal(size=(8, 3))))},
    )


def state_of(loss, batch, **options):
    variables = STUDENT.init(jax.random.key(1), batch.inputs)
    student = Model(variables, STUDENT.apply)
    initial = init_loss(loss, jax.random.key(3), student, TEACHERS, batch)
    options = {"optimizer": optax.sgd(0.1), **options}
    return make_state(
        STUDENT, batch.inputs, loss=loss, variables=variables, loss_variables=initial, **options
    )


def test_value_and_gradients_of_a_learned_temperature_equal_pytorch():
    # The derivative of T^2 KL for T is a small difference of two large terms.
    check_pytorch(
        references.apply_ctkd,
        references.ctkd,
        references.ctkd_inputs(6, 4),
        gradient_tolerance=5e-5,
    )


def values_of(loss, params, student, teacher, epoch):
    """Returns the sum of the values of CTKD, and its terms."""
    rows = student.shape[:1]
    batch = Batch(jnp.zeros(rows), jnp.zeros(rows, jnp.int32), jnp.ones(rows))
    clock = Clock(jnp.int32(0), epoch, jnp.int32(0), jnp.int32(1))
    outputs = Outputs(student), {"teacher": Outputs(teacher)}
    terms = loss.apply({"params": params}, *outputs, batch, clock)
    return terms["kl"].values.sum(), terms


def test_the_gradient_of_the_temperature_is_reversed_and_grows_with_the_epochs():
    rng = np.random.default_rng(0)
    student, teacher = jnp.float32(3 * rng.normal(size=(2, 6, 4)))

    def plain(theta, student):
        return losses.kl(student, teacher, temperature=1 + 20 * jax.nn.sigmoid(theta)).sum()

    theta = jnp.float32(0.3)
    expected, (of_theta, of_student) = jax.jit(jax.value_and_grad(plain, (0, 1)))(theta, student)
    learned = functools.partial(values_of, losses.CTKD(epochs=4))
    gradients = jax.jit(jax.value_and_grad(learned, (0, 1), has_aux=True))
    for epoch, strength in ((0, 0), (1, (1 - np.cos(np.pi / 4)) / 2), (2, 0.5), (4, 1), (9, 1)):
        (value, terms), (params, others) = gradients(
            {"theta": theta}, student, teacher, jnp.int32(epoch)
        )
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(params["theta"], -strength * of_theta, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(others, of_student, atol=1e-6)
        temperatures = terms["temperature"].values
        np.testing.assert_allclose(temperatures, 1 + 20 / (1 + np.exp(-0.3)), rtol=1e-6)
        assert terms["temperature"].scale == 0


def test_reversal_of_a_gradient():
    gradient = jax.grad(lambda x, s: jnp.sum(reverse_gradient(x, s) ** 2), (0, 1))
    of_x, of_strength = gradient(jnp.float32([3, -2]), jnp.float32(0.5))
    np.testing.assert_array_equal(of_x, [-3, 2])
    assert of_strength == 0


@pytest.mark.parametrize("width", [0, 5])
def test_extreme_logits_and_all_gradients_are_finite(width):
    loss = losses.CTKD(width=width)

    @jax.jit
    def run(student, teacher):
        arguments = student, teacher, jnp.int32(20)
        outputs = Outputs(student), {"teacher": Outputs(teacher)}
        rows = student.shape[:1]
        batch = Batch(jnp.zeros(rows), jnp.zeros(rows, jnp.int32), jnp.ones(rows))
        params = loss.init(jax.random.key(0), *outputs, batch, Clock.at())["params"]
        gradient = jax.value_and_grad(values_of, (1, 2), has_aux=True)
        (value, _), gradients = gradient(loss, params, *arguments)
        return value, gradients

    for name, student, teacher in extreme_logits():
        for leaf in jax.tree.leaves(run(student, teacher)):
            assert np.isfinite(np.asarray(leaf, np.float32)).all(), name


def test_the_temperature_is_recorded_and_ascends_on_four_devices(batch):
    update = update_on_four
    state = state_of(losses.compose(kd=(0.9, losses.CTKD(epochs=1))), batch)
    assert state.params["loss"] == {"losses_kd": {"theta": 1}}
    state, metrics = update(state, TEACHERS, [batch] * 3)  # An epoch is one update.
    records = [means(step) for step in metrics]
    temperatures = [record["kd_temperature"] for record in records]
    np.testing.assert_allclose(temperatures[:2], 1 + 20 / (1 + np.exp(-1)), rtol=1e-6)
    assert records[0]["kd_temperature_scale"] == 0
    np.testing.assert_allclose(records[0]["loss"], 0.9 * records[0]["kd_kl"], rtol=1e-5)

    def plain(theta):
        logits = batch.inputs @ kernel, batch.stored["teacher"].logits
        values = losses.kl(*logits, temperature=1 + 20 * jax.nn.sigmoid(theta))
        return 0.9 * (values * batch.weights).sum() / batch.weights.sum()

    # The first update does not change theta; the second one ascends.
    first, _ = update(state_of(state.loss, batch), TEACHERS, [batch])
    kernel = np.asarray(first.params["student"]["Dense_0"]["kernel"])
    theta = 1 + 0.1 * jax.grad(plain)(jnp.float32(1))
    np.testing.assert_allclose(temperatures[2], 1 + 20 / (1 + np.exp(-theta)), rtol=1e-5)
    assert temperatures[2] != temperatures[1]


def test_a_temperature_per_row_is_predicted_from_the_logits():
    rng = np.random.default_rng(0)
    student, teacher = jnp.float32(rng.normal(size=(2, 5, 2, 3)))  # Tokens [B, L, C].
    params = {
        "hidden": {"kernel": jnp.float32(rng.normal(size=(6, 7))), "bias": jnp.ones(7)},
        "theta": {"kernel": jnp.float32(rng.normal(size=(7, 1))), "bias": jnp.ones(1)},
    }

    def predict(params):
        both = jnp.concatenate([student, teacher], axis=-1)
        hidden = jax.nn.relu(both @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        theta = (hidden @ params["theta"]["kernel"] + params["theta"]["bias"])[..., 0]
        return 1 + 20 * jax.nn.sigmoid(theta)

    @jax.jit
    def expected(params, student):
        def values(params, student):
            return losses.kl(student, teacher, temperature=predict(params)).sum()

        return jax.grad(values, (0, 1))(params, student)

    learned = functools.partial(values_of, losses.CTKD(width=7))
    (of_params, of_student), terms = jax.jit(jax.grad(learned, (0, 1), has_aux=True))(
        params, student, teacher, jnp.int32(10)
    )
    np.testing.assert_allclose(terms["temperature"].values, predict(params), rtol=1e-5)
    ascending, wanted = expected(params, student)
    assert_close(of_params, jax.tree.map(jnp.negative, ascending), 1e-4)
    np.testing.assert_allclose(of_student, wanted, atol=1e-6)


def test_epochs_of_the_learned_temperature_are_checked():
    logits = jnp.zeros((2, 3))
    with pytest.raises(
        ValueError, match=r"expected either epochs or steps, at least 1, got epochs=0"
    ):
        values_of(losses.CTKD(epochs=0), {"theta": 1.0}, logits, logits, jnp.int32(0))


def squares(student_logits):
    return jnp.square(student_logits).sum(axis=-1)


def balanced():
    """A loss of three terms of very different sizes."""
    return losses.balance(
        ce=(2.0, losses.cross_entropy),
        kd=(0.5, losses.bind(losses.kl, temperature=4.0)),
        tiny=(
            schedules.linear(1.0, 3.0, steps=2),
            lambda student_logits: 1e-4 * squares(student_logits),
        ),
    )


@pytest.mark.parametrize("update", [update_on_one, update_on_four])
def test_balanced_terms_have_the_size_of_the_first_one(batch, update):
    _, metrics = update(state_of(balanced(), batch), TEACHERS, [batch, batch])
    for step, record in enumerate(map(means, metrics)):
        ce = record["ce"]
        np.testing.assert_allclose(record["ce_scale"], 2)
        np.testing.assert_allclose(record["kd"] * record["kd_scale"], 0.5 * ce, rtol=1e-5)
        np.testing.assert_allclose(
            record["tiny"] * record["tiny_scale"], (1 + step) * ce, rtol=1e-5
        )
        np.testing.assert_allclose(record["loss"], (2 + 0.5 + 1 + step) * ce, rtol=1e-5)


def test_balanced_terms_on_four_devices_equal_one_and_have_a_constant_ratio(batch):
    one, _ = update_on_one(state_of(balanced(), batch), TEACHERS, [batch])
    four, _ = update_on_four(state_of(balanced(), batch), TEACHERS, [batch])
    assert_close(arrays(four), arrays(one), 1e-6)

    # The same update with the ratios as numbers.
    _, (metrics,) = update_on_one(state_of(balanced(), batch), TEACHERS, [batch])
    record = means(metrics)
    fixed = losses.compose(
        ce=(2.0, losses.cross_entropy),
        kd=(record["kd_scale"], losses.bind(losses.kl, temperature=4.0)),
        tiny=(1e-4 * record["tiny_scale"], squares),
    )
    expected, _ = update_on_one(state_of(fixed, batch), TEACHERS, [batch])
    assert_close(one.params["student"], expected.params["student"], 1e-6)


def test_a_balanced_term_without_a_value_is_left_out(batch):
    loss = losses.balance(
        ce=(1.0, losses.cross_entropy),
        kd=(1.0, losses.CTKD()),
        nothing=(1.0, lambda student_logits: 0 * squares(student_logits)),
        least=(1.0, lambda student_logits: 1e-12 * squares(student_logits)),
    )
    _, (metrics,) = update_on_one(state_of(loss, batch), TEACHERS, [batch])
    record = means(metrics)
    assert record["nothing_scale"] == 0
    np.testing.assert_allclose(record["least_scale"], 1e6)
    np.testing.assert_allclose(record["kd_kl"] * record["kd_kl_scale"], record["ce"], rtol=1e-5)
    assert record["kd_temperature_scale"] == 0


def test_a_balance_needs_two_terms():
    with pytest.raises(ValueError, match=r"^balance: expected at least two terms, got 1; give"):
        losses.balance(ce=(1.0, losses.cross_entropy))
