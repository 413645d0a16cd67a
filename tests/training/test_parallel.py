import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax.host.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.training import parallel
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Outputs
from experiments.benchmarks import hlo


def test_shard_keeps_the_order_of_the_examples():
    batch = {"x": np.arange(24).reshape(8, 3), "y": np.arange(8)}
    shares = parallel.shard(batch)
    assert shares["x"].shape == (4, 2, 3)
    np.testing.assert_array_equal(shares["y"], [[0, 1], [2, 3], [4, 5], [6, 7]])


@pytest.mark.parametrize(("size", "choice"), [(6, "take 4 or 8"), (3, "take 4"), (41, "40 or 44")])
def test_batch_size_must_be_a_multiple_of_the_devices(size, choice):
    assert jax.local_device_count() == 4
    with pytest.raises(InputError, match=f"multiple of the 4 devices, got {size}; .*{choice}"):
        parallel.check_batch_size(size)


def test_multiples_of_the_devices_and_parts_are_accepted():
    parallel.check_batch_size(8)
    parallel.check_batch_size(8, grad_accumulation_steps=2)


def test_batch_size_must_be_a_multiple_of_the_accumulated_parts():
    with pytest.raises(InputError, match="4 devices x 2 parts, got 12; take 8 or 16"):
        parallel.check_batch_size(12, grad_accumulation_steps=2)


def test_donated_copy_does_not_destroy_the_original():
    original = {"x": jnp.arange(3.0), "key": jax.random.key(1)}

    def step(state, *others, axis_name):
        return {"x": state["x"] + 1, "key": jax.random.fold_in(state["key"], 1)}, {}

    placed, batch = parallel.replicate(original), parallel.shard(np.zeros(4))
    with jax.debug_nans(False):  # JAX donates nothing while it looks for NaN.
        compiled = parallel.compile_train_step(step)
        for source in (original, placed):  # On one device, and on all of them.
            copy = parallel.replicate(source)
            after, _ = compiled(copy, {}, batch, np.int32(0))
            assert copy["x"].is_deleted()
            np.testing.assert_array_equal(after["x"], [1, 2, 3])
            np.testing.assert_array_equal(source["x"], [0, 1, 2])
            assert source["key"] == jax.random.key(1)


def test_replicate_copies_to_every_device():
    placed = parallel.replicate({"x": np.ones(3)})["x"]
    assert placed.sharding.is_fully_replicated
    assert len(placed.addressable_shards) == 4


def collectives(grad_accumulation_steps=1):
    """The collectives of a train step without batch norm, and its number of parameters."""
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
        steps_per_epoch=1,
        grad_accumulation_steps=grad_accumulation_steps,
    )
    step = parallel.compile_train_step(train_step)
    program = step.program(
        parallel.replicate(state), {}, parallel.shard(batch), parallel.replicate(np.int32(0))
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return list(hlo.collectives(program)), parameters


@pytest.mark.parametrize("grad_accumulation_steps", [1, 2])
def test_step_sums_the_gradients_once_and_gathers_nothing(grad_accumulation_steps):
    operations, parameters = collectives(grad_accumulation_steps)
    assert {name for name, _ in operations} == {"all-reduce"}
    # The gradients, the weight of the term, and the total and weight of 'loss' and 'accuracy'. XLA
    # may merge the weights, which are equal.
    assert sum(sum(sizes) for _, sizes in operations) // 4 - parameters in (3, 4, 5)
    assert len(operations) <= 2


def test_step_of_a_single_device_has_no_collective(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    operations, _ = collectives()
    assert operations == []


class TwoLayers(nn.Module):
    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        hidden = nn.relu(nn.Dense(32)(inputs.reshape(len(inputs), -1)))
        return Outputs(logits=nn.Dense(10)(hidden))
