"""Recurrent encoder-decoders against PyTorch, their caches, and what they must not depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax.models.seq2seq import RecurrentConfig, RecurrentSeq2Seq
from akd_jax.training.generation import Writing, greedy
from akd_jax.types import SOURCE, TARGET
from tests.support.marian import END, PAD, SIZE, texts
from tests.support.recurrent import parameters_of, reference_layer

EMBEDDING, WIDTH = 6, 8
SIZES = {"source_size": SIZE, "target_size": SIZE, "embedding": EMBEDDING, "width": WIDTH}


def network(seed=0, **changes):
    module = RecurrentSeq2Seq(RecurrentConfig(**{**SIZES, **changes}))
    return module, jax.jit(module.init)(jax.random.key(seed), texts([3], [2]))


@pytest.mark.parametrize(("cell", "tied"), [("gru", "target"), ("lstm", "all")])
def test_logits_equal_pytorch(cell, tied):
    """Two layers, written down for one sentence after the other, without padding."""
    module, variables = network(cell=cell, tied=tied)
    inputs = ((EMBEDDING, WIDTH // 2, True), (WIDTH, WIDTH // 2, True))
    encoder = [reference_layer(cell, i, w, both) for i, w, both in inputs]
    decoder = [reference_layer(cell, i, WIDTH, False) for i in (EMBEDDING, WIDTH)]
    for number, (one, other) in enumerate(zip(encoder, decoder, strict=True)):
        variables["params"][f"encoder_{number}"] = parameters_of(one)
        variables["params"][f"decoder_{number}"] = parameters_of(other)
    rng = np.random.default_rng(5)
    variables["params"]["output_bias"] = np.float32(rng.normal(size=SIZE))
    params = jax.tree.map(lambda x: torch.tensor(np.array(x)), variables["params"])
    target_table = params["target_embedding"]["embedding"]
    source_table = params.get("source_embedding", params["target_embedding"])["embedding"]

    def of_one(source, context):
        memory, states = source_table[source][None], []
        for layer in encoder:
            memory, last = layer(memory)
            last = last if cell == "lstm" else (last,)
            # Both directions of an array of the state, [1, 1, H].
            states.append(tuple(torch.cat([x[0], x[1]], dim=-1)[None] for x in last))
        x = target_table[context][None]
        for layer, first in zip(decoder, states, strict=True):
            x, _ = layer(x, first if cell == "lstm" else first[0])
        attention = torch.softmax(x @ memory.transpose(1, 2), dim=-1)
        joined = torch.cat([x, attention @ memory], dim=-1)
        projection = params["projection"]
        hidden = torch.tanh(joined @ projection["kernel"] + projection["bias"])
        return (hidden @ target_table.T + params["output_bias"])[0]

    batch = texts([5, 9, 2], [4, 6, 1])
    logits = jax.jit(module.apply)(variables, batch).logits
    for row, (s, t) in enumerate(zip([5, 9, 2], [4, 6, 1], strict=True)):
        source, context = (np.int64(batch[x].ids[row, :n]) for x, n in ((SOURCE, s), (TARGET, t)))
        with torch.no_grad():
            expected = of_one(torch.tensor(source), torch.tensor(context))
        np.testing.assert_allclose(logits[row, :t], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_cached_logits_equal_those_of_the_whole_context(cell):
    module, variables = network(cell=cell)
    inputs = texts([5, 9, 2], [7, 7, 7])
    expected = jax.jit(module.apply)(variables, inputs).logits

    @jax.jit
    def write(source, tokens):
        cache = module.apply(variables, {SOURCE: source}, 7, method="start")

        def step(cache, position):
            read = (cache, tokens[:, position], position)
            logits, cache = module.apply(variables, *read, method="step")
            return cache, logits

        return jax.lax.scan(step, cache, jnp.arange(7))[1]

    logits = write(inputs[SOURCE], jnp.asarray(inputs[TARGET].ids))
    np.testing.assert_allclose(np.moveaxis(logits, 0, 1), expected, atol=1e-5)


def test_a_row_is_written_alike_alone_and_in_a_longer_batch():
    module, variables = network()
    writing = Writing(9, PAD, END, PAD)

    @jax.jit
    def write(source):
        def step(cache, tokens, position):
            return module.apply(variables, cache, tokens, position, method="step")

        cache = module.apply(variables, {SOURCE: source}, 9, method="start")
        return greedy(step, cache, len(source.ids), writing)

    source = texts([5, 9, 2, 7], [2] * 4)[SOURCE]
    expected = write(source)
    assert len(np.unique(expected)) > 3
    for row in range(4):
        alone = jax.tree.map(lambda x, row=row: x[row : row + 1], source)
        np.testing.assert_array_equal(write(alone), expected[row : row + 1])


def test_dropout_is_active_only_in_training():
    module, variables = network(dropout=0.3)
    inputs = texts([5, 9, 2], [7, 7, 7])
    expected = jax.jit(module.apply)(variables, inputs).logits
    apply = jax.jit(functools.partial(module.apply, train=True))
    dropped = apply(variables, inputs, rngs={"dropout": jax.random.key(0)})
    assert np.abs(dropped.logits - expected).max() > 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 7}, "expected an even width, for two directions of the encoder, got 7"),
        ({"tied": "all", "source_size": 9}, "expected one vocabulary .*, got 9 and 23 tokens"),
        ({"cell": "rnn"}, "Input should be 'gru' or 'lstm'"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RecurrentConfig(**{**SIZES, **changes})
