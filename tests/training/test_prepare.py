"""`prepare` changes each batch on the device, before teachers, student and loss read it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses, schedules
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.types import Batch, Term
from tests.support.steps import (
    Linear,
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)

BOTH = pytest.mark.parametrize("update", [update_on_one, update_on_four])
distance = losses.bind(losses.annealed_mse)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return Batch(
        inputs=np.float32(rng.normal(size=(8, 5))),
        labels=np.int32(rng.integers(0, 3, size=8)),
        weights=np.float32(rng.uniform(0.5, 2, size=8)),
        ids=np.arange(8, dtype=np.int32),
    )


@pytest.fixture
def teachers(batch):
    variables = Linear().init(jax.random.key(0), batch.inputs)
    return {"teacher": LiveTeacher(Model(variables, Linear().apply))}


@BOTH
def test_student_teacher_loss_and_metrics_read_the_prepared_batch(batch, teachers, update):
    def doubled(student, teachers, batch, clock, key):
        return batch.replace(inputs=2 * batch.inputs, labels=(batch.labels + 1) % 3)

    loss = losses.compose(soft=(0.5, distance), hard=(0.5, losses.cross_entropy))
    state = make_state(Linear(), batch.inputs, loss=loss)
    prepared = batch.replace(inputs=2 * batch.inputs, labels=(batch.labels + 1) % 3)
    expected, expected_metrics = update(state, teachers, [prepared])
    actual, metrics = update(state.replace(prepare=doubled), teachers, [batch])
    assert_close(arrays(actual), arrays(expected), 1e-7)
    assert_close(metrics, expected_metrics, 1e-6)


@pytest.mark.parametrize("parts", [1, 2])
@BOTH
def test_prepare_is_called_once_per_update_with_the_share_of_a_device(batch, update, parts):
    calls = []

    def recording(student, teachers, batch, clock, key):
        def record(ids, step, key_data):
            calls.append((sorted(ids.tolist()), int(step), tuple(key_data.tolist())))

        jax.debug.callback(record, batch.ids, clock.step, jax.random.key_data(key))
        return batch

    state = make_state(
        Linear(),
        batch.inputs,
        loss=losses.bind(losses.supervised),
        prepare=recording,
        grad_accumulation_steps=parts,
    )
    update(state, {}, [batch, batch])
    jax.effects_barrier()
    devices = 4 if update is update_on_four else 1
    for step in range(2):
        shares = [ids for ids, of_step, _ in calls if of_step == step]
        assert sorted(shares) == np.arange(8).reshape(devices, -1).tolist()
    # The key is the same on all devices, and differs between the updates.
    keys = {(step, key) for _, step, key in calls}
    assert len(keys) == 2
    assert len({key for _, key in keys}) == 2


def test_random_numbers_by_id_do_not_depend_on_devices_or_parts(batch, teachers):
    def noisy(student, teachers, batch, clock, key):
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(batch.ids)
        noise = jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)
        return batch.replace(inputs=batch.inputs + noise)

    state = make_state(Linear(), batch.inputs, loss=distance, prepare=noisy)
    expected, _ = update_on_one(state, teachers, [batch, batch])
    plain, _ = update_on_one(state.replace(prepare=None), teachers, [batch, batch])
    kernels = [s.params["student"]["Dense_0"]["kernel"] for s in (expected, plain)]
    assert jnp.abs(kernels[0] - kernels[1]).max() > 1e-2
    actual, _ = update_on_four(state, teachers, [batch, batch])
    assert_close(arrays(actual), arrays(expected), 1e-6)
    parts, _ = update_on_one(state.replace(grad_accumulation_steps=2), teachers, [batch, batch])
    assert_close(arrays(parts), arrays(expected), 1e-6)


@BOTH
def test_prepare_reads_models_and_clock_and_is_not_differentiated(batch, teachers, update):
    """The inputs become outputs of student and teacher; the update treats them as constants."""
    scale = schedules.linear(1.0, 0.0, steps=2)

    def from_outputs(student, teachers, batch, clock, key):
        own = student(batch.inputs).logits.sum(axis=-1, keepdims=True)
        other = teachers["teacher"](batch).logits.sum(axis=-1, keepdims=True)
        return batch.replace(inputs=batch.inputs + scale(clock) * (own + other))

    def squares(student, teachers, batch, clock):
        return {"squares": Term(jnp.square(student.logits).sum(axis=-1), batch.weights)}

    state = make_state(
        Linear(), batch.inputs, loss=squares, prepare=from_outputs, optimizer=optax.sgd(0.1)
    )
    kernel = np.float64(state.params["student"]["Dense_0"]["kernel"])
    other = np.float64(teachers["teacher"].model.variables["params"]["Dense_0"]["kernel"])
    weights = np.float64(batch.weights) / np.float64(batch.weights).sum()
    expected = []
    for factor in (1.0, 0.5):
        sums = (batch.inputs @ kernel + batch.inputs @ other).sum(axis=-1, keepdims=True)
        x = batch.inputs + factor * sums
        expected.append(weights @ np.square(x @ kernel).sum(axis=-1))
        kernel = kernel - 0.1 * x.T @ (2 * (x @ kernel) * weights[:, None])
    state, metrics = update(state, teachers, [batch, batch])
    np.testing.assert_allclose([means(m)["loss"] for m in metrics], expected, rtol=1e-4)
    np.testing.assert_allclose(state.params["student"]["Dense_0"]["kernel"], kernel, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda batch: batch.replace(inputs=batch.inputs[:, :3]),
            "prepare: expected batch.inputs to stay float32[8, 5], got float32[8, 3]; pad to a"
            " fixed shape and set weights to 0",
        ),
        (
            lambda batch: batch.replace(weights=batch.weights > 0),
            "prepare: expected batch.weights to stay float32[8], got bool[8]; ",
        ),
        (
            lambda batch: batch.replace(ids=None),
            "prepare: expected batch.ids to stay int32[8], got none; ",
        ),
        (
            lambda batch: batch.replace(views=batch.ids),
            "prepare: expected batch.views to stay absent, got int32[8]; ",
        ),
        (
            lambda batch: batch.replace(ids=None, views=batch.ids, labels=batch.inputs),
            "prepare: expected batch.labels to stay int32[8], got float32[8, 5]; ",
        ),
    ],
)
def test_prepare_must_keep_shapes_and_types(batch, change, message):
    state = make_state(
        Linear(),
        batch.inputs,
        loss=losses.bind(losses.supervised),
        prepare=lambda student, teachers, batch, clock, key: change(batch),
    )
    with pytest.raises(ValueError, match="prepare") as error:
        update_on_one(state, {}, [batch])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
