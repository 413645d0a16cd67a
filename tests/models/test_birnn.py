"""The network for pairs of texts against PyTorch, and its independence of the batch."""

import jax
import numpy as np
import optax
import pytest
import torch

from akd_jax import models
from akd_jax.host.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.types import Batch, Tokens
from experiments.benchmarks.recurrent_pytorch import Student
from tests.support.recurrent import gradients_of, parameters_of
from tests.support.steps import arrays, assert_close, make_state, update_on_four, update_on_one

SPEC = "birnn:11,4x3"
LENGTHS = {"source": np.int32([5, 1, 3, 4]), "target": np.int32([2, 6, 1, 6])}


def texts(extra=0):
    """Pairs of random tokens; padding has random tokens too."""
    pairs = {}
    for side, lengths in LENGTHS.items():
        size = lengths.max() + extra
        ids = np.random.default_rng(0).integers(0, 11, (size, 4), np.int32).T
        pairs[side] = Tokens(ids, np.zeros_like(ids), lengths)
    return pairs


def single_pair(inputs, row):
    """One of the pairs, without padding."""
    single = {}
    for side, tokens in inputs.items():
        length = tokens.lengths[row]
        ids = tokens.ids[[row], :length]
        single[side] = Tokens(ids, np.zeros_like(ids), tokens.lengths[[row]])
    return single


def converted(reference, read, read_gru):
    """The parameters of the reference, or their gradients, in Flax's tree."""

    def array(parameter):
        return read(parameter).detach().numpy()

    def dense(layer):
        return {"kernel": array(layer.weight).T, "bias": array(layer.bias)}

    sides = {
        name: {
            "embedding": {"embedding": array(side.embedding.weight)},
            "gru": read_gru(side.gru),
            "projection": dense(side.projection),
            "context": array(side.context)[:, None],
        }
        for name, side in (("source", reference.source), ("target", reference.target))
    }
    return {**sides, "classifier": dense(reference.output)}


def test_scores_and_gradients_equal_pytorch():
    reference, inputs = Student(11, 4, 3).eval(), texts()
    labels = np.float32([0.1, 0.9, 0.4, 0.5])
    expected = reference([(torch.tensor(x.ids), torch.tensor(x.lengths)) for x in inputs.values()])
    (expected - torch.tensor(labels)).square().sum().backward()
    parameters = converted(reference, lambda x: x, parameters_of)
    module = models.build(SPEC, 1)
    shapes = jax.tree.map(np.shape, module.init(jax.random.key(0), inputs)["params"])
    assert jax.tree.map(np.shape, parameters) == shapes

    @jax.jit
    def run(parameters):
        outputs = module.apply({"params": parameters}, inputs)
        return ((outputs.logits[:, 0] - labels) ** 2).sum(), outputs

    gradients, outputs = jax.grad(run, has_aux=True)(parameters)
    scores = expected.detach().numpy()[:, None]
    np.testing.assert_allclose(outputs.logits, scores, rtol=1e-5, atol=1e-6)
    assert 0 < outputs.logits.min() < outputs.logits.max() < 1
    expected_gradients = converted(reference, lambda x: x.grad, gradients_of)
    for (path, actual), expected in zip(
        jax.tree.leaves_with_path(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6, err_msg=str(path))


def test_features_are_the_vectors_of_both_sides():
    module, inputs = models.build(SPEC, 1), texts()
    variables = module.init(jax.random.key(0), inputs)
    features = jax.jit(module.apply)(variables, inputs).features
    assert features["source"].shape == features["target"].shape == (4, 6)
    np.testing.assert_array_equal(
        features["pooled"], np.concatenate([features["source"], features["target"]], axis=1)
    )


def test_a_score_is_the_same_alone_and_in_a_longer_batch():
    module, inputs = models.build(SPEC, 1), texts()
    variables = module.init(jax.random.key(0), inputs)
    apply = jax.jit(module.apply)
    scores = apply(variables, inputs).logits
    assert np.ptp(scores) > 1e-3
    np.testing.assert_allclose(apply(variables, texts(extra=7)).logits, scores, rtol=1e-6)
    for row in (1, 2):
        single = apply(variables, single_pair(inputs, row)).logits[0]
        np.testing.assert_allclose(single, scores[row], rtol=1e-6)


@pytest.mark.slow  # tests/training compares other networks on devices.
def test_an_update_is_the_same_on_four_devices():
    # Dropout draws other masks on other devices.
    module, inputs = models.build(SPEC, 1).clone(dropout=0.0), texts()
    batch = Batch(inputs, np.float32([0.1, 0.9, 0.4, 0.5]), np.float32([1, 2, 1, 0]))
    state = make_state(
        module,
        inputs,
        loss=supervised_loss,
        variables=module.init(jax.random.key(0), inputs),
        optimizer=optax.sgd(0.1),
    )
    one, _ = update_on_one(state, {}, [batch])
    four, _ = update_on_four(state, {}, [batch])
    assert_close(arrays(four), arrays(one), 1e-5)


def test_dropout_zeroes_half_of_the_states_in_training():
    module, inputs = models.build("birnn:11,4x64", 1), texts()
    variables = module.init(jax.random.key(0), inputs)
    # Without recurrent weights and with constant gates all states are equal and not 0.
    params = jax.tree.map(np.zeros_like, variables["params"])
    for side in ("source", "target"):
        for direction in ("forward", "backward"):
            params[side]["gru"][direction]["in"]["bias"] += 1
        params[side]["projection"]["kernel"] = np.eye(128, dtype=np.float32)
    apply = jax.jit(module.apply, static_argnames="train")
    in_training = apply(
        {"params": params}, inputs, train=True, rngs={"dropout": jax.random.key(1)}
    ).features["source"][1]  # A text of one token, whose vector is its state.
    assert 0.3 < np.mean(in_training == 0) < 0.7
    without = apply({"params": params}, inputs).features["source"][1]
    kept = np.asarray(in_training) != 0
    np.testing.assert_allclose(in_training[kept], 2 * without[kept], rtol=1e-6)


@pytest.mark.parametrize("argument", ["", "8000", "8000,50", "0,50x50", "8000,50x50,2"])
def test_other_specifications_are_refused(argument):
    with pytest.raises(InputError, match=f"got 'birnn:{argument}'; write it as in birnn:8000"):
        models.build(f"birnn:{argument}", 1)


def test_classes_are_refused():
    with pytest.raises(InputError, match="a task with a number to predict, got one with 3 classes"):
        models.build(SPEC, 3)
