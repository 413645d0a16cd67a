import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from akd_jax import parallel
from akd_jax.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.step import train_step
from akd_jax.types import Batch, Outputs, TrainState
from experiments.benchmarks import hlo


def test_shard_keeps_the_order_of_the_examples():
    batch = {"x": np.arange(24).reshape(8, 3), "y": np.arange(8)}
    shares = parallel.shard(batch)
    assert shares["x"].shape == (4, 2, 3)
    np.testing.assert_array_equal(shares["y"], [[0, 1], [2, 3], [4, 5], [6, 7]])


@pytest.mark.parametrize(("size", "choice"), [(6, "take 4 or 8"), (3, "take 4"), (41, "40 or 44")])
def test_a_batch_that_the_devices_do_not_divide(size, choice):
    assert jax.local_device_count() == 4
    with pytest.raises(InputError, match=f"multiple of the 4 devices, got {size}; .*{choice}"):
        parallel.check_batch_size(size)


def test_a_batch_that_the_devices_divide():
    parallel.check_batch_size(8)
    parallel.check_batch_size(8, grad_accumulation_steps=2)


def test_a_share_that_its_parts_do_not_divide():
    with pytest.raises(InputError, match="4 devices x 2 parts, got 12; take 8 or 16"):
        parallel.check_batch_size(12, grad_accumulation_steps=2)


def test_what_is_replicated_survives_the_donation_of_the_copy():
    original = {"x": jax.random.normal(jax.random.key(0), (3,)), "key": jax.random.key(1)}
    step = parallel.compile_train_step(lambda state, *others, axis_name: (state, {}))
    batch = parallel.shard(np.zeros(4))
    step(parallel.replicate(original), {}, batch, np.int32(0))
    assert np.isfinite(original["x"]).all()
    assert original["key"] == jax.random.key(1)


def test_replicate_places_on_every_device():
    placed = parallel.replicate({"x": np.ones(3)})["x"]
    assert placed.sharding.is_fully_replicated
    assert len(placed.addressable_shards) == 4


def collectives(grad_accumulation_steps=1):
    """Those of a step without batch norm, whose statistics are added too; and its parameters."""
    rng = np.random.default_rng(0)
    images = np.float32(rng.normal(size=(16, 8, 8, 1)))
    batch = Batch(images, np.int32(rng.integers(10, size=16)), np.ones(16, np.float32))
    module = TwoLayers()
    state = TrainState.create(
        module.apply,
        module.init(jax.random.key(0), images),
        optimizer=optax.sgd(0.1, momentum=0.9),
        loss=supervised_loss,
        key=jax.random.key(1),
        grad_accumulation_steps=grad_accumulation_steps,
    )
    step = parallel.compile_train_step(train_step)
    program = step.program(
        parallel.replicate(state), {}, parallel.shard(batch), parallel.replicate(np.int32(0))
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return list(hlo.collectives(program)), parameters


@pytest.mark.parametrize("grad_accumulation_steps", [1, 2])
def test_devices_add_the_gradients_once_and_gather_nothing(grad_accumulation_steps):
    found, parameters = collectives(grad_accumulation_steps)
    assert {name for name, _ in found} == {"all-reduce"}
    # The gradients, and the total and weight of 'loss' and of 'accuracy'; XLA may see that the
    # two weights are one.
    assert sum(sum(sizes) for _, sizes in found) // 4 - parameters in (3, 4)
    assert len(found) <= 2


def test_a_device_that_is_alone_adds_nothing(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    found, _ = collectives()
    assert found == []


class TwoLayers(nn.Module):
    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        hidden = nn.relu(nn.Dense(32)(inputs.reshape(len(inputs), -1)))
        return Outputs(logits=nn.Dense(10)(hidden))
