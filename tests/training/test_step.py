import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses, models
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training import parallel
from akd_jax.training.state import TrainState
from akd_jax.training.step import predict_step, train_step, train_steps
from akd_jax.types import Batch, Outputs

MAX_TEMPERATURE = 4


def annealed(student, teachers, batch, temperature_step):
    del batch
    return losses.annealed_mse(
        student.logits, teachers["teacher"].logits, temperature_step, MAX_TEMPERATURE
    )


def make_state(module, images, *, optimizer=None, loss=annealed):
    return TrainState.create(
        module.apply,
        module.init(jax.random.key(1), images),
        optimizer=optimizer or optax.sgd(0.1, momentum=0.9),
        loss=loss,
        key=jax.random.key(2),
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, size=16)
    weights[9:] = 0  # One device has some padding rows, and another one only padding rows.
    return Batch(
        inputs=np.float32(rng.normal(size=(16, 8, 8, 1))),
        labels=np.int32(rng.integers(0, 10, size=16)),
        weights=np.float32(weights),
    )


@pytest.fixture
def teachers(batch):
    module = models.build("plain_cnn:8 M FC", num_classes=10)
    variables = module.init(jax.random.key(0), batch.inputs)
    return {"teacher": LiveTeacher(Model(variables, module.apply))}


def assert_close(actual, expected, atol):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=0, atol=atol),
        jax.tree.map(np.asarray, jax.device_get(actual)),
        jax.tree.map(np.asarray, jax.device_get(expected)),
    )


def arrays(state):
    return {"params": state.params, "model_state": state.model_state, "opt": state.opt_state}


def test_a_single_device_uses_jit_instead_of_pmap(batch, teachers, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    module = models.build("plain_cnn:4 M 4 FC8 FC", num_classes=10)
    state, k = make_state(module, batch.inputs), jnp.int32(3)
    expected, metrics = jax.jit(train_step)(state, teachers, batch, k)
    step = parallel.compile_train_step(train_step)
    actual, packed = step(parallel.replicate(state), teachers, parallel.shard(batch), k)
    assert_close(packed.fetch()[0], metrics, 0)
    assert_close(arrays(actual), arrays(expected), 0)

    twice, second = jax.jit(train_step)(expected, teachers, batch, k)
    steps = parallel.compile_train_step(train_steps)
    both = jax.tree.map(lambda x: np.stack([x, x]), batch)
    actual, packed = steps(parallel.replicate(state), teachers, parallel.shard_steps(both), k)
    assert_close(packed.fetch(), [metrics, second], 1e-5)
    assert_close(arrays(actual), arrays(twice), 1e-6)

    model = teachers["teacher"].model
    predict = parallel.compile_predict_step(predict_step)
    assert_close(predict(model, parallel.shard(batch)), jax.jit(predict_step)(model, batch), 0)


def test_four_devices_equal_one_device_and_jit(batch, teachers):
    module = models.build("plain_cnn:4 M 4 FC8 FC", num_classes=10)
    jitted = jax.jit(train_step)
    on_four = parallel.compile_train_step(train_step)
    on_one = jax.pmap(
        functools.partial(train_step, axis_name="device"),
        axis_name="device",
        in_axes=(None, None, 0, None),
        out_axes=None,
        devices=jax.devices()[:1],
    )
    states = [make_state(module, batch.inputs) for _ in range(3)]
    states[1] = parallel.replicate(states[1])
    for k in (0, 3):
        k = jnp.int32(k)
        states[0], expected = jitted(states[0], teachers, batch, k)
        states[1], actual = on_four(states[1], teachers, parallel.shard(batch), k)
        assert_close(actual.fetch()[0], expected, 1e-5)  # The order of the sums differs.
        whole = jax.tree.map(lambda x: x[None], batch)
        states[2], actual = on_one(states[2], teachers, whole, k)
        assert_close(actual, expected, 1e-5)
    assert jax.local_device_count() == 4
    assert int(states[0].step) == 2
    assert_close(arrays(states[1]), arrays(states[0]), 1e-6)
    assert_close(arrays(states[2]), arrays(states[0]), 1e-6)


class Linear(nn.Module):
    """A linear student, whose gradient has a closed form."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del train, axis_name
        return Outputs(logits=nn.Dense(3, use_bias=False)(inputs))


class TwoLayers(nn.Module):
    """A student without batch norm, because its statistics would differ between the parts."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del train, axis_name
        hidden = nn.relu(nn.Dense(8)(inputs.reshape(len(inputs), -1)))
        return Outputs(logits=nn.Dense(10)(hidden))


def test_one_update_equals_the_closed_form():
    rng = np.random.default_rng(0)
    inputs, teacher_kernel = rng.normal(size=(8, 5)), rng.normal(size=(5, 3))
    weights = np.array([1, 1, 0.5, 2, 0, 0, 0, 1])
    batch = Batch(np.float32(inputs), np.zeros(8, np.int32), np.float32(weights))
    module = Linear()
    teacher = Model({"params": {"Dense_0": {"kernel": jnp.float32(teacher_kernel)}}}, module.apply)
    state = make_state(module, batch.inputs, optimizer=optax.sgd(0.5))
    kernel = np.asarray(state.params["Dense_0"]["kernel"], np.float64)

    phi = (1 + 1) / MAX_TEMPERATURE
    error = inputs @ kernel - phi * inputs @ teacher_kernel
    gradient = inputs.T @ (weights[:, None] * 2 * error / 3) / weights.sum()

    state, metrics = jax.jit(train_step)(
        state, {"teacher": LiveTeacher(teacher)}, batch, jnp.int32(1)
    )
    np.testing.assert_allclose(
        state.params["Dense_0"]["kernel"], kernel - 0.5 * gradient, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        metrics["loss"].mean(),
        np.average(np.square(error).mean(axis=-1), weights=weights),
        rtol=1e-5,
    )


def test_metrics_describe_the_batch_before_the_update(batch, teachers):
    module = models.build("plain_cnn:4 M FC", num_classes=10)
    state = make_state(module, batch.inputs)
    outputs, _ = module.apply(
        state.model.variables, batch.inputs, train=True, mutable=["batch_stats"]
    )
    _, metrics = jax.jit(train_step)(state, teachers, batch, jnp.int32(0))
    correct = np.argmax(np.asarray(outputs.logits), axis=-1) == batch.labels
    np.testing.assert_allclose(
        metrics["accuracy"].mean(), np.average(correct, weights=batch.weights), rtol=1e-6
    )


def test_a_batch_of_weight_zero_leaves_the_parameters_unchanged(batch, teachers):
    module = models.build("plain_cnn:4 M FC", num_classes=10)
    state = make_state(module, batch.inputs)
    empty = batch.replace(weights=np.zeros_like(batch.weights))
    after, _ = jax.jit(train_step)(state, teachers, empty, jnp.int32(0))
    assert_close(after.params, state.params, 0)


class Dropping(nn.Module):
    """Returns its inputs after dropout, so that the mask is visible."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del axis_name
        offset = self.param("offset", nn.initializers.zeros, ())
        return Outputs(logits=nn.Dropout(0.5, deterministic=not train)(inputs) + offset)


def test_dropout_differs_by_step_and_by_device():
    outputs = []

    def loss(student, teachers, batch, temperature_step):
        jax.debug.callback(lambda logits: outputs.append(np.asarray(logits)), student.logits)
        return student.logits.sum(axis=-1)

    inputs = np.ones((8, 50), np.float32)
    batch = Batch(inputs, np.zeros(8, np.int32), np.ones(8, np.float32))
    state = parallel.replicate(make_state(Dropping(), inputs, optimizer=optax.sgd(0.0), loss=loss))
    step = parallel.compile_train_step(train_step)
    for _ in range(2):
        state, _ = step(state, {}, parallel.shard(batch), jnp.int32(0))
    jax.effects_barrier()
    masks = {(mask > 0.5).tobytes() for mask in outputs}
    assert len(outputs) == len(masks) == 8  # Two steps on four devices give eight masks.


def test_student_and_teacher_read_the_augmented_batch(batch, teachers):
    def doubled(batch):
        return batch.replace(inputs=2 * batch.inputs)

    module = models.build("plain_cnn:4 M FC", num_classes=10)
    step = jax.jit(train_step)
    augmented = make_state(module, batch.inputs).replace(augment=doubled)
    after, metrics = step(augmented, teachers, batch, jnp.int32(0))
    plain = make_state(module, batch.inputs)
    expected, expected_metrics = step(plain, teachers, doubled(batch), jnp.int32(0))
    assert_close(arrays(after), arrays(expected), 0)
    assert_close(metrics, expected_metrics, 0)


def test_a_loss_must_return_one_value_per_example(batch, teachers):
    def mean_loss(student, teachers, batch, temperature_step):
        return annealed(student, teachers, batch, temperature_step).mean()

    state = make_state(models.build("plain_cnn:FC", 10), batch.inputs, loss=mean_loss)
    with pytest.raises(ValueError, match=r"one value per example, shape \(16,\), got shape \(\)"):
        jax.jit(train_step)(state, teachers, batch, jnp.int32(0))


def test_predictions_of_four_devices_equal_those_of_one_device(batch, teachers):
    model = teachers["teacher"].model
    step = parallel.compile_predict_step(predict_step)
    logits = step(parallel.replicate(model), parallel.shard(batch))
    assert logits.shape == (4, 4, 10)
    assert logits.dtype == jnp.float32
    expected = np.asarray(model(batch.inputs).logits)
    np.testing.assert_allclose(np.asarray(logits).reshape(16, 10), expected, atol=1e-6)


@pytest.mark.parametrize("grad_accumulation_steps", [2, 4])
def test_accumulated_gradients_give_the_update_of_the_whole_batch(
    batch, teachers, grad_accumulation_steps
):
    state = make_state(TwoLayers(), batch.inputs)
    expected, expected_metrics = jax.jit(train_step)(state, teachers, batch, jnp.int32(1))
    parts = state.replace(grad_accumulation_steps=grad_accumulation_steps)
    on_one, metrics = jax.jit(train_step)(parts, teachers, batch, jnp.int32(1))
    step = parallel.compile_train_step(train_step)
    on_four, _ = step(
        *parallel.replicate((parts, teachers)),
        parallel.shard(batch),
        parallel.replicate(jnp.int32(1)),
    )
    assert int(on_one.step) == int(expected.step) == 1
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for actual in (on_one, on_four):
        jax.tree.map(close, actual.params, expected.params)
    jax.tree.map(close, metrics, expected_metrics)


def test_accumulation_parts_must_divide_the_rows(batch, teachers):
    state = make_state(models.build("plain_cnn:FC", 10), batch.inputs).replace(
        grad_accumulation_steps=3
    )
    with pytest.raises(ValueError, match="a multiple of 3 rows per device, got 16"):
        jax.jit(train_step)(state, teachers, batch, jnp.int32(0))


def test_a_teacher_of_the_same_shape_does_not_recompile(batch, teachers):
    module = models.build("plain_cnn:4 M FC", num_classes=10)
    step = parallel.compile_train_step(train_step)
    state = parallel.replicate(make_state(module, batch.inputs))
    placed = parallel.replicate(teachers)
    other = jax.tree.map(lambda x: x + 1, placed)
    for same_shape in (placed, other):
        state, _ = step(state, same_shape, parallel.shard(batch), parallel.replicate(jnp.int32(0)))
    assert step.traces == 1


@pytest.mark.parametrize("skip", [False, True])
def test_a_nonfinite_step_is_counted_and_can_be_skipped(batch, teachers, skip):
    def infinite_at_step_1(student, teachers, batch, temperature_step):
        values = annealed(student, teachers, batch, temperature_step)
        return values * jnp.where(temperature_step == 1, jnp.inf, 1)

    module = models.build("plain_cnn:4 M FC", num_classes=10)  # It has batch statistics.
    state = make_state(module, batch.inputs, loss=infinite_at_step_1).replace(skip_nonfinite=skip)
    with jax.debug_nans(False):
        step = jax.jit(train_step)
        good, metrics = step(state, teachers, batch, jnp.int32(0))
        assert float(metrics["nonfinite"].mean()) == 0
        bad, metrics = step(good, teachers, batch, jnp.int32(1))
    assert float(metrics["nonfinite"].mean()) == 1
    assert int(bad.step) == 2
    if skip:
        jax.tree.map(np.testing.assert_array_equal, arrays(bad), arrays(good))
        assert float(metrics["loss"].weight) == 0
    else:
        assert not np.isfinite(jax.tree.leaves(bad.params)[0]).all()
