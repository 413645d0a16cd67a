"""Losses that are Flax modules: own parameters, own state and own random numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher, StoredTeacher
from akd_jax.training.state import init_loss
from akd_jax.types import Batch, Outputs, Term
from tests.support.errors import error_of
from tests.support.steps import (
    Linear,
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)

TEACHERS = {"teacher": StoredTeacher("teacher")}
STUDENT = Linear(2)


class Projected(nn.Module):
    """The squared distance of the projected student to the teacher; it owns the projection."""

    width: int = 4

    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        del batch, clock
        projected = nn.Dense(self.width, use_bias=False)(student.features["scores"])
        return jnp.square(projected - teachers["teacher"].logits).sum(axis=-1)


class Centred(nn.Module):
    """Squared logits minus a moving average of their mean over all devices."""

    decay: float = 0.75

    @nn.compact
    def __call__(self, student, teachers, batch, clock, *, axis_name=None):
        del teachers, clock
        average = self.variable("moving", "average", jnp.zeros, ())
        values = jnp.square(student.logits).sum(axis=-1)
        sums = jnp.stack([(values * batch.weights).sum(), jnp.sum(batch.weights)])
        total, weight = sums if axis_name is None else jax.lax.psum(sums, axis_name)
        difference = values - average.value
        if not self.is_initializing():
            average.value = self.decay * average.value + (1 - self.decay) * total / weight
        return {"centred": Term(difference, batch.weights)}


class Noisy(nn.Module):
    """Random values, which the records show."""

    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        del teachers, clock
        noise = jax.random.normal(self.make_rng("loss"), batch.weights.shape)
        return {"noise": Term(noise + 0 * student.logits.sum(axis=-1), batch.weights)}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, size=8)
    weights[5:] = 0  # One device has a padding row, and another one only padding rows.
    return Batch(
        inputs=np.float32(rng.normal(size=(8, 3))),
        labels=np.zeros(8, np.int32),
        weights=np.float32(weights),
        stored={"teacher": Outputs(np.float32(rng.normal(size=(8, 4))))},
    )


def state_of(loss, batch, **options):
    """A state with the loss's initial variables."""
    variables = STUDENT.init(jax.random.key(1), batch.inputs)
    student = Model(variables, STUDENT.apply)
    loss_variables = init_loss(loss, jax.random.key(3), student, TEACHERS, batch)
    return make_state(
        STUDENT,
        batch.inputs,
        loss=loss,
        variables=variables,
        loss_variables=loss_variables,
        **options,
    )


def kernels(state):
    """The student's kernel and the loss's projection, in float64."""
    return [np.float64(state.params[owner]["Dense_0"]["kernel"]) for owner in ("student", "loss")]


def gradients(batch, kernel, projection):
    """Gradients of the weighted mean of |x K P - t|^2 with respect to K and P."""
    x, target = np.float64(batch.inputs), np.float64(batch.stored["teacher"].logits)
    weights = np.float64(batch.weights) / np.float64(batch.weights).sum()
    errors = 2 * (x @ kernel @ projection - target) * weights[:, None]
    return x.T @ errors @ projection.T, (x @ kernel).T @ errors


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("update", [update_on_one, update_on_four])
def test_student_and_loss_have_optimizers_of_their_own(batch, update, parts):
    state = state_of(
        Projected(),
        batch,
        optimizer=optax.sgd(0.02),
        loss_optimizer=optax.sgd(0.01, momentum=0.9),
        grad_accumulation_steps=parts,
    )
    kernel, projection = kernels(state)
    velocity = 0
    for _ in range(2):
        kernel_gradient, projection_gradient = gradients(batch, kernel, projection)
        velocity = 0.9 * velocity + projection_gradient
        kernel, projection = kernel - 0.02 * kernel_gradient, projection - 0.01 * velocity
    state, _ = update(state, TEACHERS, [batch, batch])
    for actual, expected in zip(kernels(state), (kernel, projection), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_without_a_loss_optimizer_the_loss_is_trained_like_the_student(batch):
    state = state_of(Projected(), batch, optimizer=optax.sgd(0.02))
    expected = [
        before - 0.02 * gradient
        for before, gradient in zip(kernels(state), gradients(batch, *kernels(state)), strict=True)
    ]
    state, _ = update_on_one(state, TEACHERS, [batch])
    for actual, value in zip(kernels(state), expected, strict=True):
        np.testing.assert_allclose(actual, value, atol=1e-6)


def test_clipping_of_the_student_does_not_see_the_gradient_of_the_loss(batch):
    clipped = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0))
    state = state_of(Projected(), batch, optimizer=clipped, loss_optimizer=optax.sgd(0.0))
    kernel, projection = kernels(state)
    gradient, _ = gradients(batch, kernel, projection)
    assert np.linalg.norm(gradient) > 0.1
    state, _ = update_on_one(state, TEACHERS, [batch])
    expected = kernel - 0.1 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(kernels(state)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(kernels(state)[1], projection)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("update", [update_on_one, update_on_four])
def test_state_of_a_loss_is_updated_once_per_part_and_equal_on_all_devices(batch, update, parts):
    batch = batch.replace(weights=np.ones(8, np.float32))
    frozen = {"optimizer": optax.sgd(0.0), "grad_accumulation_steps": parts}
    state = state_of(Centred(), batch, **frozen)
    assert state.loss_state == {"moving": {"average": 0}}
    assert state.params["loss"] == {}
    kernel = np.float64(state.params["student"]["Dense_0"]["kernel"])
    values = np.square(np.float64(batch.inputs) @ kernel).sum(axis=-1)
    # A device cuts its share into parts: with four devices, part 0 has the even rows.
    shares = values.reshape(4, 2) if update is update_on_four else values.reshape(1, 8)
    of_parts = [part.mean() for part in np.split(shares, parts, axis=1)]
    average, expected = 0.0, []
    for _ in range(2):
        differences = []
        for mean in of_parts:
            differences.append(mean - average)
            average = 0.75 * average + 0.25 * mean
        expected.append(np.mean(differences))
    state, metrics = update(state, TEACHERS, [batch, batch])
    np.testing.assert_allclose(state.loss_state["moving"]["average"], average, rtol=1e-5)
    losses_of_updates = [means(m)["centred"] for m in metrics]
    np.testing.assert_allclose(losses_of_updates, expected, rtol=1e-5)


def test_random_numbers_differ_between_updates_and_are_reproducible(batch):
    def noise(state, update):
        _, metrics = update(state, TEACHERS, [batch] * 3)
        return [means(m)["noise"] for m in metrics]

    for update in (update_on_one, update_on_four):
        state = state_of(Noisy(), batch)
        first = noise(state, update)
        assert len(set(first)) == 3
        assert noise(state_of(Noisy(), batch), update) == first
        assert noise(state.replace(key=jax.random.key(9)), update) != first
        assert noise(state.replace(grad_accumulation_steps=2), update) != first


def test_random_numbers_differ_between_parts_and_devices():
    # Every row has its own weight, so that the sum shows whether two rows have the same number.
    inputs = np.zeros((4, 3), np.float32)
    batch = Batch(inputs, np.zeros(4, np.int32), np.ones(4, np.float32))
    noise = []
    for row in range(4):
        weights = np.zeros(4, np.float32)
        weights[row] = 1
        for update, options in (
            (update_on_four, {}),
            (update_on_one, {"grad_accumulation_steps": 4}),
        ):
            state = make_state(STUDENT, inputs, loss=Noisy(), **options)
            _, (metrics,) = update(state, {}, [batch.replace(weights=weights)])
            noise.append(means(metrics)["noise"])
    assert len({round(value, 5) for value in noise}) == 8


def test_loss_and_student_draw_different_numbers(batch):
    class Dropping(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train=False, axis_name=None):
            del train, axis_name
            offset = self.param("offset", nn.initializers.zeros, ())
            noise = jax.random.normal(self.make_rng("dropout"), (len(inputs),))
            return Outputs(noise[:, None] + offset)

    class Same(nn.Module):
        @nn.compact
        def __call__(self, student, teachers, batch, clock):
            noise = jax.random.normal(self.make_rng("loss"), batch.weights.shape)
            return jnp.abs(noise - student.logits[:, 0])

    state = make_state(
        Dropping(), batch.inputs, loss=Same(), variables={"params": {"offset": jnp.zeros(())}}
    )
    _, (metrics,) = update_on_one(state, {}, [batch])
    assert means(metrics)["loss"] > 0.1


def test_initial_variables_of_a_loss_depend_on_the_key_and_on_shapes_only(batch):
    student = Model(STUDENT.init(jax.random.key(1), batch.inputs), STUDENT.apply)
    variables = init_loss(Projected(), jax.random.key(0), student, TEACHERS, batch)
    kernel = variables["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (2, 4)
    assert variables.keys() == {"params"}
    other = batch.replace(inputs=7 * batch.inputs)
    again = init_loss(Projected(), jax.random.key(0), student, TEACHERS, other)
    np.testing.assert_array_equal(again["params"]["Dense_0"]["kernel"], kernel)
    different = init_loss(Projected(), jax.random.key(1), student, TEACHERS, batch)
    assert (different["params"]["Dense_0"]["kernel"] != kernel).any()
    assert init_loss(Noisy(), jax.random.key(0), student, {}, batch) == {}
    assert init_loss(losses.bind(losses.supervised), None, student, {}, batch) == {}


def test_initialisation_names_an_unknown_feature(batch):
    student = Model(STUDENT.init(jax.random.key(1), batch.inputs), STUDENT.apply)
    big = Linear(5)
    live = LiveTeacher(Model(big.init(jax.random.key(0), batch.inputs), big.apply))
    hint = losses.compose(hint=(1.0, losses.Hint("group_9", teacher="big")))
    message = error_of(init_loss, hint, jax.random.key(0), student, {"big": live}, batch)
    assert message == (
        "loss: expected the name of a teacher or of a feature, got 'group_9'; use one of the"
        " teachers (big) or of the features: the student has scores; big has scores"
    )


def test_model_of_a_state_has_only_the_variables_of_the_student(batch):
    state = state_of(Projected(), batch)
    assert state.model.variables.keys() == {"params"}
    assert_close(state.model.variables["params"], state.params["student"], 0)
    logits = state.model(batch.inputs).logits
    np.testing.assert_allclose(logits, batch.inputs @ kernels(state)[0], rtol=1e-5)


class Diverging(nn.Module):
    """A loss with parameters and a count of its calls; it is infinite in the second update."""

    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        values = Projected()(student, teachers, batch, clock)
        calls = self.variable("count", "calls", jnp.zeros, (), jnp.int32)
        if not self.is_initializing():
            calls.value += 1
        return values * jnp.where(clock.step == 1, jnp.inf, 1)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("update", [update_on_one, update_on_four])
def test_a_skipped_update_leaves_the_loss_unchanged_too(batch, update, skip):
    state = state_of(Diverging(), batch, optimizer=optax.adam(0.1), skip_nonfinite=skip)
    with jax.debug_nans(False), jax.numpy_dtype_promotion("standard"):
        good, _ = update(state, TEACHERS, [batch])
        bad, (_, metrics) = update(state, TEACHERS, [batch, batch])
    assert float(metrics["nonfinite"].mean()) == 1
    assert int(bad.step) == 2
    assert int(good.loss_state["count"]["calls"]) == 1
    if skip:
        assert_close(arrays(bad), arrays(good), 0)
        assert float(metrics["loss"].weight) == 0
    else:
        assert int(bad.loss_state["count"]["calls"]) == 2
        assert not np.isfinite(jax.tree.leaves(bad.params["loss"])[0]).all()
