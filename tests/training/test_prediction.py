import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.models.network import Model
from akd_jax.training import parallel
from akd_jax.training.step import predict_step
from akd_jax.types import Batch, Outputs


class Network(nn.Module):
    """Logits in bfloat16 and two features; dropout in training mode only."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del axis_name
        hidden = nn.tanh(nn.Dense(4)(inputs))
        dropped = nn.Dropout(0.5, deterministic=not train)(hidden)
        logits = nn.Dense(3)(dropped).astype(jnp.bfloat16)
        return Outputs(logits, {"hidden": hidden, "inputs": inputs})


@pytest.fixture
def batch():
    inputs = np.float32(np.random.default_rng(0).normal(size=(8, 5)))
    return Batch(inputs, np.zeros(8, np.int32), np.ones(8, np.float32))


@pytest.fixture
def model(batch):
    return Model(Network().init(jax.random.key(0), batch.inputs), Network().apply)


def in_numpy(model, inputs):
    """Hidden units and logits of the network in float64."""
    first, second = (model.variables["params"][name] for name in ("Dense_0", "Dense_1"))
    hidden = np.tanh(inputs @ np.float64(first["kernel"]) + np.float64(first["bias"]))
    return hidden, hidden @ np.float64(second["kernel"]) + np.float64(second["bias"])


def test_predictions_of_four_devices_are_those_of_the_shares(batch, model):
    step = parallel.compile_predict_step(predict_step)
    outputs = step(parallel.replicate(model), parallel.shard(batch))
    assert outputs.logits.shape == (4, 2, 3)
    assert outputs.logits.dtype == jnp.float32
    assert outputs.features == {}  # By default, only the logits leave the device.
    _, expected = in_numpy(model, batch.inputs)
    np.testing.assert_allclose(np.reshape(outputs.logits, (8, 3)), expected, atol=2e-2)


def test_select_chooses_the_returned_outputs(batch, model):
    def select(outputs):
        return Outputs(outputs.logits[:, :1], {"hidden": outputs.features["hidden"]})

    outputs = jax.jit(lambda *args: predict_step(*args, select=select))(model, batch)
    assert outputs.logits.shape == (8, 1)
    assert outputs.logits.dtype == jnp.bfloat16
    assert outputs.features.keys() == {"hidden"}
    expected, _ = in_numpy(model, batch.inputs)
    np.testing.assert_allclose(outputs.features["hidden"], expected, atol=1e-5)


def test_model_reads_the_view_of_a_batch(batch, model):
    def negated(batch):
        return batch.replace(inputs=-batch.inputs)

    outputs = predict_step(model, batch, view=negated, select=lambda outputs: outputs)
    np.testing.assert_array_equal(outputs.features["inputs"], -batch.inputs)


def test_merged_shards_have_the_order_of_the_batch(batch, model):
    step = parallel.compile_predict_step(predict_step)
    logits = step(parallel.replicate(model), parallel.shard(batch)).logits
    merged = parallel.merge_shards(logits)
    assert isinstance(merged, np.ndarray)
    np.testing.assert_array_equal(merged, np.asarray(logits).reshape(8, 3))
    assert len(np.unique(merged[:, 0])) == 8
