"""Frozen parameters keep their values to the bit, and their submodules run in inference mode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.data import Batches, Examples
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.training import optimizers
from akd_jax.training.check import check_stage
from akd_jax.training.evaluate import MeanLoss
from akd_jax.training.frozen import EVERYTHING
from akd_jax.training.stage import Stage
from akd_jax.training.state import init_loss
from akd_jax.types import Batch, Clock, Outputs, Term
from tests.support.steps import assert_close, make_state, update_on_four, update_on_one

ADAMW = optimizers.build(
    optimizers.OptimizerConfig(name="adamw", weight_decay=0.5), optax.constant_schedule(0.1)
)
BOTH = pytest.mark.parametrize("update", [update_on_one, update_on_four])


class Block(nn.Module):
    """A dense layer, a batch norm and a dropout."""

    width: int

    @nn.compact
    def __call__(self, x, *, train, axis_name):
        x = nn.Dense(self.width)(x)
        x = nn.BatchNorm(use_running_average=not train, axis_name=axis_name if train else None)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class TwoBlocks(nn.Module):
    """An encoder and a head; `scale` multiplies the states between them in training."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None, scale=1.0):
        states = Block(4, name="encoder")(inputs, train=train, axis_name=axis_name)
        if train:
            states *= scale
        x = Block(5, name="head")(states, train=False, axis_name=axis_name)
        return Outputs(nn.Dense(3, name="classifier")(x), {"states": states})


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return Batch(
        inputs=np.float32(rng.normal(size=(8, 6))),
        labels=np.int32(rng.integers(0, 3, size=8)),
        weights=np.float32(rng.uniform(0.5, 2, size=8)),
    )


def state_of(batch, **options):
    return make_state(
        TwoBlocks(),
        batch.inputs,
        loss=losses.compose(ce=(1.0, losses.cross_entropy)),
        optimizer=ADAMW,
        **options,
    )


@BOTH
def test_frozen_parameters_and_statistics_keep_every_bit(batch, update):
    state = state_of(batch, frozen=("encoder", "head/Dense_0/bias"))
    before = jax.device_get(state.model.variables)
    after = jax.device_get(update(state, {}, [batch, batch])[0].model.variables)
    for collection in ("params", "batch_stats"):
        jax.tree.map(
            np.testing.assert_array_equal,
            after[collection]["encoder"],
            before[collection]["encoder"],
        )
    bias, kernel = (
        [tree["params"]["head"]["Dense_0"][name] for tree in (before, after)]
        for name in ("bias", "kernel")
    )
    np.testing.assert_array_equal(*bias)
    assert not np.array_equal(*kernel)
    assert jax.tree.structure(before) == jax.tree.structure(after)


@BOTH
def test_only_the_loss_learns_if_everything_is_frozen(batch, update):
    """A linear loss learns from the states of the student in inference mode."""
    variables = TwoBlocks().init(jax.random.key(1), batch.inputs)
    model, loss = Model(variables, TwoBlocks().apply), Projected()
    state = make_state(
        TwoBlocks(),
        batch.inputs,
        loss=loss,
        variables=variables,
        loss_variables=init_loss(loss, jax.random.key(1), model, {}, batch),
        optimizer=optax.sgd(0.1),
        frozen=(EVERYTHING,),
    )
    layer = jax.tree.map(np.float64, state.params["loss"]["Dense_0"])
    state, _ = update(state, {}, [batch])
    jax.tree.map(np.testing.assert_array_equal, state.model.variables, variables)
    assert not jax.tree.leaves(state.params["student"])
    states = np.asarray(model(batch.inputs).features["states"], np.float64)
    errors = (states @ layer["kernel"] + layer["bias"])[:, 0] - 1
    weights = batch.weights / batch.weights.sum()
    gradient = 2 * 2 * (weights * errors)[:, None] * states
    np.testing.assert_allclose(
        np.asarray(state.params["loss"]["Dense_0"]["kernel"])[:, 0],
        layer["kernel"][:, 0] - 0.1 * gradient.sum(axis=0),
        rtol=1e-4,
    )


def test_others_are_trained_as_on_states_of_the_encoder_in_inference_mode(batch):
    """The reference is a network without the encoder, on states that NumPy computes."""
    state = state_of(batch, frozen=("encoder",))
    parameters = state.model.variables["params"]
    encoder = jax.tree.map(np.float64, parameters["encoder"]["Dense_0"])
    # The running statistics of a new batch norm are 0 and 1.
    states = (batch.inputs @ encoder["kernel"] + encoder["bias"]) / np.sqrt(1 + 1e-5)

    class Rest(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train=False, axis_name=None):
            x = Block(5, name="head")(inputs, train=False, axis_name=axis_name)
            return Outputs(nn.Dense(3, name="classifier")(x))

    rest = make_state(
        Rest(),
        np.float32(states),
        loss=state.loss,
        optimizer=ADAMW,
        variables={
            "params": {name: parameters[name] for name in ("head", "classifier")},
            "batch_stats": {"head": state.model_state["batch_stats"]["head"]},
        },
    )
    batches = [batch.replace(inputs=np.float32(states))] * 3
    expected, _ = update_on_one(rest, {}, batches)
    actual, _ = update_on_one(state, {}, [batch] * 3)
    assert_close(actual.params["student"], expected.params["student"], 1e-5)
    # The optimizer has no state for frozen parameters.
    assert "encoder" not in actual.params["student"]
    assert len(jax.tree.leaves(actual.opt_state)) == len(jax.tree.leaves(expected.opt_state))


def test_options_reach_the_module_in_training_only(batch):
    scaled = state_of(batch, frozen=("encoder",), training_options={"scale": 0.0})
    state, metrics = update_on_one(scaled, {}, [batch])
    plain, _ = update_on_one(state_of(batch, frozen=("encoder",)), {}, [batch])
    # Without states, the kernel of the head gets no gradient but its decay.
    kernels = [
        np.asarray(s.params["student"]["head"]["Dense_0"]["kernel"]) for s in (scaled, state, plain)
    ]
    np.testing.assert_allclose(kernels[1], (1 - 0.1 * 0.5) * kernels[0], rtol=1e-6)
    assert not np.allclose(kernels[2], kernels[1], rtol=1e-3)
    assert np.isfinite(metrics[0]["loss"].mean())
    assert np.asarray(state.model(batch.inputs).features["states"]).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frozen": ("decoder",)}, "got 'decoder'; use one of classifier, encoder, head or a path"),
        ({"frozen": ("enc",)}, "got 'enc'; use one of"),
        ({"frozen": ("encoder", "head", "classifier")}, "which are all; freeze fewer"),
        ({"training_options": {"masks": 1}}, "expected keyword arguments of the student's module"),
    ],
)
def test_what_the_student_does_not_have_is_refused_in_one_line(batch, fields, message):
    loss = losses.compose(ce=(1.0, losses.cross_entropy))
    stage = Stage("tuning", 1, loss, optimizers.OptimizerConfig(), **fields)
    variables = TwoBlocks().init(jax.random.key(0), batch.inputs)
    with pytest.raises(InputError, match=message) as error:
        check_stage(stage, Model(variables, TwoBlocks().apply), {}, batch)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("stage tuning: ")


class Projected(nn.Module):
    """A loss with a parameter: the squared error of the projected states."""

    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        del teachers, clock
        errors = jnp.square(nn.Dense(1)(student.features["states"])[:, 0] - 1)
        return {"match": Term(errors, batch.weights, 2.0)}


@pytest.mark.parametrize("doubled", [False, True])
def test_mean_loss_of_a_loss_with_parameters(batch, doubled):
    def double(student, teachers, batch, clock, key):
        del student, teachers, clock, key
        return batch.replace(inputs=2 * batch.inputs)

    variables = TwoBlocks().init(jax.random.key(0), batch.inputs)
    model, loss = Model(variables, TwoBlocks().apply), Projected()
    loss_variables = init_loss(loss, jax.random.key(1), model, {}, batch)
    examples = Examples(batch.inputs, batch.labels)
    evaluate = MeanLoss(
        loss, {}, Batches(examples, 4), Clock.at(), prepare=double if doubled else None
    )
    scores = evaluate(model, loss_variables)
    inputs = batch.inputs * (2 if doubled else 1)
    states = np.asarray(model(inputs).features["states"], np.float64)
    layer = jax.tree.map(np.float64, loss_variables["params"]["Dense_0"])
    errors = np.square((states @ layer["kernel"] + layer["bias"])[:, 0] - 1)
    assert scores["match"] == pytest.approx(errors.mean(), rel=1e-5)
    assert scores["loss"] == pytest.approx(2 * errors.mean(), rel=1e-5)
