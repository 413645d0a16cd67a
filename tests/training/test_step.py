import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses, models, schedules
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher, StoredTeacher
from akd_jax.training import parallel
from akd_jax.training.step import (
    label_metrics,
    predict_step,
    teacher_agreement,
    train_step,
    train_steps,
)
from akd_jax.types import UNLABELLED, Batch, Outputs, Term, TopK
from tests.support import steps
from tests.support.steps import Linear, arrays, assert_close, means, update_on_one

PHI = schedules.annealing_factor(4)


def annealed(student, teachers, batch, clock):
    del batch
    return losses.annealed_mse(student.logits, teachers["teacher"].logits, PHI(clock))


def make_state(module, images, *, loss=annealed, **options):
    return steps.make_state(module, images, loss=loss, **options)


@pytest.fixture
def batch():
    return steps.uneven_images()


@pytest.fixture
def teachers(batch):
    module = models.build("plain_cnn:8 M FC", num_classes=10)
    variables = module.init(jax.random.key(0), batch.inputs)
    return {"teacher": LiveTeacher(Model(variables, module.apply))}


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
    two_steps = parallel.compile_train_step(train_steps)
    both = jax.tree.map(lambda x: np.stack([x, x]), batch)
    actual, packed = two_steps(parallel.replicate(state), teachers, parallel.shard_steps(both), k)
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


def test_one_update_equals_the_closed_form():
    rng = np.random.default_rng(0)
    inputs, teacher_kernel = rng.normal(size=(8, 5)), rng.normal(size=(5, 3))
    weights = np.array([1, 1, 0.5, 2, 0, 0, 0, 1])
    batch = Batch(np.float32(inputs), np.zeros(8, np.int32), np.float32(weights))
    module = Linear()
    teacher = Model({"params": {"Dense_0": {"kernel": jnp.float32(teacher_kernel)}}}, module.apply)
    state = make_state(module, batch.inputs, optimizer=optax.sgd(0.5))
    kernel = np.asarray(state.params["student"]["Dense_0"]["kernel"], np.float64)

    phi = (1 + 1) / 4
    error = inputs @ kernel - phi * inputs @ teacher_kernel
    gradient = inputs.T @ (weights[:, None] * 2 * error / 3) / weights.sum()

    state, metrics = jax.jit(train_step)(
        state, {"teacher": LiveTeacher(teacher)}, batch, jnp.int32(1)
    )
    np.testing.assert_allclose(
        state.params["student"]["Dense_0"]["kernel"], kernel - 0.5 * gradient, rtol=1e-5, atol=1e-6
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

    def loss(student, teachers, batch, clock):
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


def test_a_loss_must_return_one_value_per_example(batch, teachers):
    def mean_loss(student, teachers, batch, clock):
        return annealed(student, teachers, batch, clock).mean()

    state = make_state(models.build("plain_cnn:FC", 10), batch.inputs, loss=mean_loss)
    with pytest.raises(ValueError, match=r"one value per example, shape \(16,\), got shape \(\)"):
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
    def infinite_at_step_1(student, teachers, batch, clock):
        values = annealed(student, teachers, batch, clock)
        return values * jnp.where(clock.step == 1, jnp.inf, 1)

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


def test_the_clock_of_a_loss_counts_epochs_and_updates():
    def times(student, teachers, batch, clock):
        del teachers
        values = 0 * student.logits.sum(axis=-1)
        names = ("temperature_step", "epoch", "step")
        return {
            name: Term(values + getattr(clock, name).astype(jnp.float32), batch.weights)
            for name in names
        }

    batch = Batch(np.ones((4, 2), np.float32), np.zeros(4, np.int32), np.ones(4, np.float32))
    state = make_state(Linear(), batch.inputs, loss=times, steps_per_epoch=2)
    for k, expected in ((5, (5, 0, 0)), (5, (5, 0, 1)), (6, (6, 1, 2))):
        state, (metrics,) = update_on_one(state, {}, [batch], k)
        values = means(metrics)
        assert (values["temperature_step"], values["epoch"], values["step"]) == expected


def test_stored_outputs_equal_a_live_teacher_bit_for_bit(batch, teachers):
    outputs = jax.jit(lambda x: teachers["teacher"].model(x))(batch.inputs)
    stored = batch.replace(stored={"teacher": Outputs(np.asarray(outputs.logits))})
    module = models.build("plain_cnn:4 M FC", num_classes=10)
    state = make_state(module, batch.inputs)
    expected, _ = update_on_one(state, teachers, [batch])
    actual, _ = update_on_one(state, {"teacher": StoredTeacher("teacher")}, [stored])
    assert_close(arrays(actual), arrays(expected), 1e-7)


def test_stored_outputs_of_16_bits_are_widened():
    half = Outputs(
        jnp.ones((2, 3), jnp.bfloat16),
        {"pooled": np.ones((2, 4), np.float16)},
        TopK.of(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), 2),
    )
    batch = Batch(np.zeros((2, 1)), np.zeros(2, np.int32), np.ones(2, np.float32))
    outputs = StoredTeacher("big")(batch.replace(stored={"big": half, "other": half}))
    assert outputs.top_k.indices.dtype == jnp.int32
    widened = (outputs.logits, outputs.features["pooled"], outputs.top_k.values)
    assert {array.dtype for array in widened} == {jnp.dtype(jnp.float32)}
    np.testing.assert_array_equal(outputs.top_k.values, [[2, 1], [5, 4]])


def test_accuracy_is_that_of_the_first_largest_logit():
    logits = np.float32(np.random.default_rng(0).integers(0, 3, size=(200, 4)))  # Many ties.
    logits[0] = -np.inf
    labels = np.int32(np.random.default_rng(1).integers(0, 4, size=200))
    batch = Batch(np.zeros(200), labels, np.ones(200, np.float32))
    metric = label_metrics(Outputs(jnp.asarray(logits)), batch)["accuracy"]
    assert float(metric.total) == np.sum(logits.argmax(axis=-1) == labels)
    batch = batch.replace(labels=labels * 0, weights=np.float32(np.arange(200) == 0))
    with jax.debug_nans(False):
        broken = jnp.asarray(logits).at[0, 2].set(jnp.nan)
        assert float(label_metrics(Outputs(broken), batch)["accuracy"].total) == 0


def test_agreement_is_the_share_of_equal_predictions():
    student, teacher = (np.float32(np.random.default_rng(x).normal(size=(50, 4))) for x in (0, 1))
    weights = np.float32(np.arange(50) % 3)
    batch = Batch(np.zeros(50), np.full(50, UNLABELLED), weights)
    others = {"text": Outputs(jnp.zeros((50, 6)))}  # Of other classes.
    teachers = {"teacher": Outputs(jnp.asarray(teacher)), **others}
    metric = teacher_agreement(Outputs(jnp.asarray(student)), teachers, batch)["agreement"]
    same = student.argmax(axis=-1) == teacher.argmax(axis=-1)
    np.testing.assert_allclose(metric.mean(), np.average(same, weights=weights))
    assert teacher_agreement(Outputs(jnp.asarray(student)), others, batch) == {}
    two = {"one": teachers["teacher"], "two": teachers["teacher"]}
    assert teacher_agreement(Outputs(jnp.asarray(student)), two, batch) == {}


def test_accuracy_counts_tokens_with_a_label():
    logits = jnp.array([[[0.0, 1], [0, 1], [1, 0]], [[1, 0], [0, 1], [1, 0]]])
    labels = np.int32([[1, 0, UNLABELLED], [0, UNLABELLED, 1]])
    batch = Batch(np.zeros((2, 3)), labels, np.float32([1, 3]))
    (metric,) = label_metrics(Outputs(logits), batch).items()
    # Right, wrong, none; right with weight 3, none, wrong with weight 3.
    assert metric[0] == "accuracy"
    assert (metric[1].total, metric[1].weight) == (1 + 3, 2 + 6)


def test_squared_error_counts_examples_with_a_target():
    labels = np.float32([1.0, np.nan, 3.0])
    batch = Batch(np.zeros((3, 1)), labels, np.float32([1, 1, 2]))
    with jax.debug_nans(False):
        metrics = label_metrics(Outputs(jnp.array([[2.0], [9.0], [0.0]])), batch)
    assert (metrics["squared_error"].total, metrics["squared_error"].weight) == (1 + 2 * 9, 3)


def test_labels_of_other_rows_give_no_metric():
    batch = Batch(np.zeros((2, 3)), np.zeros(2, np.int32), np.ones(2, np.float32))
    assert label_metrics(Outputs(jnp.zeros((2, 3, 5))), batch) == {}
