import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses, models
from akd_jax.models.network import Model, Network
from akd_jax.models.taps import tap
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Outputs
from tests.support.errors import error_of

IMAGES = np.float32(np.random.default_rng(0).normal(size=(4, 8, 8, 1)))


def network(module, preprocess=lambda inputs: inputs):
    return Network(module, preprocess)


def initial_variables(network, inputs):
    return network.initial_variables(jax.random.key(0), inputs)


class Pair(nn.Module):
    """Returns its input and a scaled input, as layers of other packages return tuples."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.constant(3.0), ())
        return x * scale, x


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5, name="second")(nn.relu(nn.Dense(4, name="first")(x)))


class Foreign(nn.Module):
    """A network of another package: nested modules, a plain array as the result."""

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        del axis_name
        self.sow("intermediates", "own", x)
        x, _ = Pair(name="pair")(Block(name="block")(x))
        shared = nn.Dense(5, name="shared")
        x = shared(shared(x))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(2, name="head")(x)


VECTORS = np.float32(np.random.default_rng(1).normal(size=(6, 3)))


@pytest.fixture(scope="module")
def foreign():
    tapped = tap(
        network(Foreign(), lambda inputs: 2 * inputs),
        inner="block/second",
        pair="pair",
        shared="shared",
        head="head",
    )
    return tapped, initial_variables(tapped, VECTORS)


def test_taps_of_a_foreign_module_equal_numpy(foreign):
    tapped, variables = foreign
    outputs = jax.jit(tapped.apply)(variables, VECTORS)
    params = jax.tree.map(np.asarray, variables["params"])

    def dense(params, x):
        return x @ params["kernel"] + params["bias"]

    inner = dense(
        params["block"]["second"],
        np.maximum(dense(params["block"]["first"], 2 * VECTORS), 0),
    )
    shared = dense(params["shared"], dense(params["shared"], 3 * inner))
    head = dense(params["head"], shared / np.sqrt(1 + 1e-5))
    assert isinstance(outputs, Outputs)
    assert outputs.features.keys() == {"inner", "pair", "shared", "head"}
    for name, expected in (("inner", inner), ("pair", 3 * inner), ("shared", shared)):
        np.testing.assert_allclose(outputs.features[name], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.features["head"], head, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs.logits, outputs.features["head"])


def test_a_tap_changes_neither_variables_nor_results():
    module = models.build("resnet:8", 10)
    plain = network(module)
    # The taps of a tapped network are added to the earlier ones.
    tapped = tap(tap(plain, last="BasicBlock_2"), block="BasicBlock_1", inner="BasicBlock_1/Conv_0")
    variables = initial_variables(plain, IMAGES)
    jax.tree.map(
        np.testing.assert_array_equal, dict(variables), dict(initial_variables(tapped, IMAGES))
    )
    kwargs = {"train": True, "mutable": ["batch_stats"]}
    expected, expected_state = jax.jit(lambda v, x: plain.apply(v, x, **kwargs))(variables, IMAGES)
    actual, state = jax.jit(lambda v, x: tapped.apply(v, x, **kwargs))(variables, IMAGES)
    assert state.keys() == {"batch_stats"}
    jax.tree.map(np.testing.assert_array_equal, state, dict(expected_state))
    features = dict(actual.features)
    np.testing.assert_array_equal(features.pop("block"), expected.features["group_2_preactivation"])
    np.testing.assert_array_equal(features.pop("last"), expected.features["group_3_preactivation"])
    assert features.pop("inner").shape == (4, 4, 4, 32)
    jax.tree.map(np.testing.assert_array_equal, actual.replace(features=features), expected)


def test_training_steps_read_a_tapped_student_and_teacher(foreign):
    tapped, variables = foreign
    state = TrainState.create(
        tapped.apply,
        variables,
        optimizer=optax.sgd(0.1),
        loss=losses.bind(losses.feature_mse, layers=("inner", "scaled")),
        key=jax.random.key(0),
        steps_per_epoch=1,
    )
    teacher = tap(network(Foreign()), scaled="pair")
    model = Model(initial_variables(teacher, VECTORS), teacher.apply)
    batch = Batch(VECTORS, np.zeros(6, np.int32), np.ones(6, np.float32))
    before = tapped.apply(variables, VECTORS).features["inner"]
    target = np.asarray(model(VECTORS).features["scaled"])
    state, metrics = jax.jit(train_step)(
        state, {"teacher": LiveTeacher(model)}, batch, jnp.int32(0)
    )
    np.testing.assert_allclose(
        metrics["loss"].mean(), np.mean((np.asarray(before) - target) ** 2), rtol=1e-5
    )
    assert state.model_state.keys() == {"batch_stats"}
    norm = state.model_state["batch_stats"]["norm"]
    assert np.abs(norm["mean"]).min() > 0  # The step has updated the running mean.


def test_an_unknown_path_is_reported_with_the_known_ones():
    tapped = tap(network(Foreign()), first="pair", second="block/third")
    message = error_of(initial_variables, tapped, VECTORS)
    assert (
        "got 'block/third'; use one of: block, head, norm, pair, shared, block/first, " in message
    )
    # A network with given variables is never initialised.
    variables = initial_variables(network(Foreign()), VECTORS)
    assert message == error_of(jax.jit(tapped.apply), variables, VECTORS)


def test_a_long_list_of_paths_is_cut():
    tapped = tap(network(models.build("resnet:44", 10)), block="BasicBlock_21")
    message = error_of(lambda: jax.eval_shape(tapped.init, jax.random.key(0), IMAGES))
    # By hand: 21 blocks, three other layers, four layers per block and two more in two shortcuts.
    assert message.endswith(f" and {21 + 3 + 4 * 21 + 2 * 2 - 40} more")


def test_an_output_that_is_no_array_is_reported():
    class Wrapper(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False, axis_name=None):
            return Named(name="named")(x)["x"]

    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"x": nn.Dense(2)(x)}

    tapped = tap(network(Wrapper()), block="named")
    message = error_of(initial_variables, tapped, VECTORS)
    assert "'named' to return an array, got dict; tap a submodule inside it" in message
