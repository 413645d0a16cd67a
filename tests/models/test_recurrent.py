"""Recurrent layers against PyTorch's layers on packed sequences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax.models.recurrent import Recurrent
from tests.support.recurrent import gradients_of, parameters_of, reference_layer

LENGTHS = np.int32([5, 3, 1, 4])
WIDTH, INPUTS = 6, 3


def sequences(positions=5):
    return np.float32(np.random.default_rng(0).normal(size=(4, positions, INPUTS)))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_outputs_and_gradients_equal_pytorch(cell, bidirectional):
    layer, inputs = reference_layer(cell, INPUTS, WIDTH, bidirectional), sequences()
    tensor = torch.tensor(inputs, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        tensor, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)
    expected.square().sum().backward()

    module = Recurrent(WIDTH, cell, bidirectional)
    parameters = parameters_of(layer)
    shapes = jax.tree.map(np.shape, module.init(jax.random.key(0), inputs, LENGTHS)["params"])
    assert jax.tree.map(np.shape, parameters) == shapes

    @jax.jit
    def run(parameters, inputs):
        outputs = module.apply({"params": parameters}, inputs, LENGTHS)
        return (outputs**2).sum(), outputs

    gradients, outputs = jax.grad(run, (0, 1), has_aux=True)(parameters, inputs)
    np.testing.assert_allclose(outputs, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients[1], tensor.grad, rtol=1e-4, atol=1e-6)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        gradients[0],
        gradients_of(layer),
    )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_first_and_last_states_and_their_gradients_equal_pytorch(cell, bidirectional):
    layer, inputs = reference_layer(cell, INPUTS, WIDTH, bidirectional), sequences()
    directions, parts = 1 + bidirectional, {"gru": 1, "lstm": 2}[cell]
    rng = np.random.default_rng(1)
    first, weights = np.float32(rng.normal(size=(2, parts, directions, 4, WIDTH)))
    tensors = [torch.tensor(x, requires_grad=True) for x in first]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(inputs), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    outputs, last = layer(packed, tensors[0] if cell == "gru" else tuple(tensors))
    last = torch.stack([last] if cell == "gru" else list(last))
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    (padded.square().sum() + (last * torch.tensor(weights)).sum()).backward()

    module = Recurrent(WIDTH, cell, bidirectional)
    variables = {"params": parameters_of(layer)}

    @jax.jit
    def run(first):
        states = [tuple(first[:, direction]) for direction in range(directions)]
        outputs, last = module.apply(variables, inputs, LENGTHS, states, method="run")
        last = jnp.stack([jnp.stack(state) for state in last], axis=1)
        return (outputs**2).sum() + (last * weights).sum(), last

    gradient, actual = jax.grad(run, has_aux=True)(jnp.asarray(first))
    np.testing.assert_allclose(actual, last.detach(), rtol=1e-5, atol=1e-6)
    expected = torch.stack([x.grad for x in tensors])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_longer_batch_and_its_padding_do_not_change_the_outputs(cell):
    module, inputs = Recurrent(WIDTH, cell, bidirectional=True, merge="sum"), sequences()
    variables = module.init(jax.random.key(0), inputs, LENGTHS)
    apply = jax.jit(module.apply)
    expected = np.asarray(apply(variables, inputs, LENGTHS))
    assert expected.shape == (4, 5, WIDTH)
    longer = np.full((4, 9, INPUTS), 1e3, np.float32)
    longer[:, :5] = np.where(np.arange(5)[:, None] < LENGTHS[:, None, None], inputs, -1e3)
    outputs = apply(variables, longer, LENGTHS)
    np.testing.assert_allclose(outputs[:, :5], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(outputs[:, 5:], 0)
    np.testing.assert_array_equal(expected[1, 3:], 0)


def test_merged_directions_are_the_two_layers():
    inputs = sequences()
    both = Recurrent(WIDTH, "gru", bidirectional=True)
    variables = both.init(jax.random.key(0), inputs, LENGTHS)
    joined = both.apply(variables, inputs, LENGTHS)
    added = Recurrent(WIDTH, "gru", bidirectional=True, merge="sum").apply(
        variables, inputs, LENGTHS
    )
    np.testing.assert_allclose(added, joined[..., :WIDTH] + joined[..., WIDTH:], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn"}, "cell: expected 'gru' or 'lstm', got 'rnn'"),
        ({"merge": "mean"}, "merge: expected 'concatenate' or 'sum', got 'mean'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(WIDTH, **options).init(jax.random.key(0), sequences(), LENGTHS)
