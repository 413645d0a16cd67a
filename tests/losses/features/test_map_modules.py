"""Modules of convolutional maps: extreme features, random numbers, and updates on four devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.losses.randomness import example_keys
from akd_jax.teachers.live import StoredTeacher
from akd_jax.types import Batch, Outputs
from experiments.benchmarks.losses.modules import (
    batch_of,
    initial_parameters,
    module_loss,
    random_numbers_of,
)
from tests.support.loss_checks import check_finite
from tests.support.steps import (
    arrays,
    assert_all_trained,
    assert_close,
    make_module_state,
    means,
    update_on_four,
    update_on_one,
)


def normal(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


MODULES = [
    losses.AB("features"),
    losses.FSP(("features", "features")),
    losses.FactorTransfer("features"),
    losses.Hint("features"),
    losses.MGD("features"),
    losses.VID("features"),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_modules_are_finite_at_extreme_features(module):
    inputs = {
        "student_features": normal(3, 3, 2, 4),
        "teacher_features": normal(3, 3, 2, 6, seed=1),
    }
    loss = module_loss(module)
    extreme = {key: x.copy() for key, x in inputs.items()}
    for x in extreme.values():
        x[0], x[1] = 0, 1e6 * x[1]
    check_finite(loss, {**extreme, "student_parameters": initial_parameters(module, inputs)})
    # One example with one pixel and one channel.
    small = {key: np.ones((1, 1, 1, 1), jnp.bfloat16) for key in inputs}
    check_finite(loss, {**small, "student_parameters": initial_parameters(module, small)})


class Student(nn.Module):
    """Two maps, and logits."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del train, axis_name
        small = nn.Dense(3)(inputs)
        large = nn.Dense(2)(jnp.repeat(jnp.repeat(inputs, 2, axis=1), 2, axis=2))
        return Outputs(small.mean(axis=(1, 2)), {"large": large, "small": small})


@pytest.mark.slow  # tests/training compares modules on four devices.
def test_an_update_is_the_same_on_four_devices():
    inputs = normal(8, 2, 2, 3)
    maps = {"large": normal(8, 4, 4, 2, seed=1), "small": normal(8, 2, 2, 4, seed=2)}
    weights = np.float32([1, 0.5, 2, 1, 1, 0, 0, 0])  # The last device has only padding.
    labels, stored = np.zeros(8, np.int32), {"teacher": Outputs(normal(8, 3), maps)}
    batch = Batch(inputs, labels, weights, stored=stored)
    teachers = {"teacher": StoredTeacher("teacher")}
    loss = losses.compose(
        nst=(5.0, losses.bind(losses.nst, layers="small")),
        fsp=(5.0, losses.FSP(("large", "small"))),
        vid=(1.0, losses.VID("small")),
        ab=(0.003, losses.AB("small")),
        ft=(50.0, losses.FactorTransfer("small", reconstruction_weight=0.02)),
        mgd=(0.001, losses.MGD("small")),
        cc=(10.0, losses.CC(("small", "small"), width=4)),
        crd=(1.0, losses.InBatchCRD(("small", "small"), width=4)),
        hint=(1.0, losses.Hint("small")),
    )
    state = make_module_state(Student(), loss, teachers, batch)
    one, metrics = update_on_one(state, teachers, [batch])
    four, on_four = update_on_four(state, teachers, [batch])
    assert_close(arrays(four), arrays(one), 1e-5)
    assert_close(means(on_four[0]), means(metrics[0]), 1e-4)
    values = means(metrics[0])
    assert {"nst", "fsp", "vid", "ab", "ft_factor", "ft_reconstruction", "mgd"} < values.keys()
    np.testing.assert_allclose(values["ft_reconstruction_scale"], 1.0)
    assert_all_trained(state, one)


def test_mgd_masks_at_its_rate_and_by_the_id_of_the_example():
    draw = functools.partial(
        random_numbers_of, losses.MGD("features", rate=0.25), losses.MGD.draw_mask, (64, 8, 8, 2)
    )
    kept = draw(batch_of(64))
    assert kept.shape == (64, 8, 8, 1)
    assert abs(kept.mean() - 0.75) < 0.03  # The standard deviation is 0.007.
    assert len(np.unique(kept.reshape(64, -1), axis=0)) == 64
    ids = np.int32([3, 3, *range(62)])
    of_ids = draw(batch_of(64).replace(ids=ids))
    np.testing.assert_array_equal(of_ids[0], of_ids[1])
    np.testing.assert_array_equal(of_ids[2:], kept[:62])  # Rows are the ids of a batch without.


def test_keys_of_examples_do_not_depend_on_the_devices():
    ids = np.int32([5, 3, 9, 1])
    for batch in (batch_of(4), batch_of(4).replace(ids=ids)):
        keys = [jax.random.fold_in(jax.random.key(0), device) for device in range(2)]
        expected = jax.random.key_data(example_keys(keys[0], batch, None))
        shares = jax.tree.map(lambda x: x.reshape(2, 2), batch)
        actual = jax.pmap(
            lambda key, share: jax.random.key_data(example_keys(key, share, "devices")),
            axis_name="devices",
        )(jnp.stack(keys), shares)
        np.testing.assert_array_equal(actual.reshape(expected.shape), expected)
