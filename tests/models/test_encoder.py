import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

from akd_jax import models
from akd_jax.data.text import tokenise
from akd_jax.models import huggingface
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Task, Tokens
from tests.support.encoders import (
    KINDS,
    MINILM,
    in_torch,
    load,
    logits,
    projections_in_torch,
    random_tokens,
    save,
    start,
)

SENTENCES = (
    'A film of quiet power, and of "naïve" charm.',
    "Dull.",
    "It's stylishly directed with verve, but the last half hour undoes what the first two built.",
)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {}),
        ("roberta", {}),
        ("xlm-roberta", {}),
        ("distilbert", {}),
        ("bert", {"hidden_act": "relu", "num_attention_heads": 1, "num_hidden_layers": 1}),
        ("roberta", {"hidden_act": "gelu_new", "hidden_size": 24, "layer_norm_eps": 1e-3}),
        ("distilbert", {"hidden_act": "relu", "num_attention_heads": 1, "pad_token_id": 3}),
    ],
    ids=[*KINDS, "relu", "gelu_new", "distilbert-relu"],
)
def test_logits_equal_those_of_transformers(kind, changes, tmp_path):
    reference = save(tmp_path, kind, **changes)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [12, 1, 7, 30, 3], 30)
    expected = in_torch(reference, tokens).logits.numpy()
    assert np.ptp(expected, axis=0).min() > 0.1  # The logits depend on the text.
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_the_logits(kind, tmp_path):
    save(tmp_path, kind, num_hidden_layers=1)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [12, 5], 12)
    longer = Tokens(
        # Arbitrary ids beyond the length of a text must not matter.
        np.pad(tokens.ids, ((0, 0), (0, 9)), constant_values=7),
        np.pad(tokens.token_type_ids, ((0, 0), (0, 9))),
        tokens.lengths,
    )
    np.testing.assert_allclose(
        logits(module, variables, longer), logits(module, variables, tokens), atol=1e-5
    )


def test_last_hidden_state_of_minilm_equals_that_of_transformers():
    reference = transformers.AutoModel.from_pretrained(MINILM).eval()
    folder = huggingface.Folder(MINILM)
    module = models.build(f"huggingface:{MINILM}", 2)
    texts = np.array([[text] for text in SENTENCES], object)
    tokens, _ = tokenise(folder.load_tokenizer(), texts, 32)
    variables = start(module, huggingface.Weights(folder, Task(("a", "b"))))
    outputs = jax.jit(module.apply)(variables, tokens)
    expected = in_torch(reference, tokens).last_hidden_state.numpy()
    real = np.arange(32) < tokens.lengths[:, None]
    actual = np.asarray(outputs.features["last_hidden_state"])
    np.testing.assert_allclose(actual[real], expected[real], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_those_of_transformers(kind, tmp_path):
    save(tmp_path, kind, num_hidden_layers=2)
    reference = KINDS[kind][1].from_pretrained(tmp_path, attn_implementation="eager").eval()
    reference.config.output_hidden_states = reference.config.output_attentions = True
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [12, 1, 7], 12)
    outputs = jax.jit(module.apply)(variables, tokens)
    features = jax.tree.map(np.asarray, dict(outputs.features))
    expected = in_torch(reference, tokens)
    real = np.arange(12) < tokens.lengths[:, None]

    assert len(expected.hidden_states) == 3
    for number, hidden in enumerate(expected.hidden_states):
        actual = features.pop(f"hidden_{number}")
        np.testing.assert_allclose(actual[real], hidden.numpy()[real], atol=1e-4)
    np.testing.assert_array_equal(features.pop("last_hidden_state"), actual)

    assert len(expected.attentions) == 2
    for number, probabilities in enumerate(expected.attentions, start=1):
        scores = features.pop(f"attention_{number}")
        assert scores.dtype == np.float32
        # The probabilities do not depend on a constant that is added to a row of scores.
        with torch.no_grad():
            projected = {
                name: layer(expected.hidden_states[number - 1]).reshape(3, 12, 4, 8)
                for name, layer in projections_in_torch(reference, number - 1).items()
            }
            products = torch.einsum("bqhd,bkhd->bhqk", projected["query"], projected["key"])
            products = products.numpy() / np.sqrt(8)
        for name, vectors in projected.items():
            actual = features.pop(f"{name}_{number}")
            assert actual.shape == vectors.shape
            np.testing.assert_allclose(actual[real], vectors.numpy()[real], atol=1e-4)
        pairs = np.broadcast_to(real[:, None, :, None] & real[:, None, None, :], scores.shape)
        np.testing.assert_allclose(scores[pairs], products[pairs], atol=1e-3)
        masked = np.where(real[:, None, None, :], scores, -np.inf)
        weights = np.exp(masked - masked.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(weights[pairs], probabilities.numpy()[pairs], atol=1e-4)

    params = variables["params"]["classifier"]
    logits_of_pooled = features.pop("pooled") @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(logits_of_pooled, expected.logits.numpy(), atol=1e-4)
    assert not features


def read_logits(student, teachers, batch, clock):
    return student.logits[:, 0]


def read_attention(student, teachers, batch, clock):
    return student.logits[:, 0] + student.features["attention_1"].sum(axis=(1, 2, 3))


# Products of matrices: the scores of a layer, and their gradients for the queries and the keys.
@pytest.mark.parametrize(("loss", "extra"), [(read_logits, 0), (read_attention, 3)])
def test_attention_scores_cost_nothing_unless_a_loss_reads_them(loss, extra):
    layers = 2
    config = EncoderConfig("bert", 30, 16, layers, 2, 24, 12, 2, attention_probs_dropout_prob=0.0)
    module, tokens = Encoder(config, 3), Tokens(*np.ones((2, 4, 6), np.int32), np.int32([6] * 4))
    variables = jax.jit(module.init)(jax.random.key(0), tokens)
    state = TrainState.create(
        module.apply,
        variables,
        optimizer=optax.sgd(0.1),
        loss=loss,
        key=jax.random.key(1),
        steps_per_epoch=1,
    )
    batch = Batch(tokens, np.zeros(4, np.int32), np.ones(4, np.float32))
    program = jax.jit(train_step).lower(state, {}, batch, jnp.int32(0)).compile()
    # In the forward pass a layer has six dense layers and two products of the attention, and the
    # head has two dense layers. Each product has two gradients.
    expected = 3 * (8 * layers + 2)
    assert len(re.findall(r" dot\(", program.as_text())) == expected + extra


def with_dropout(module, variables, tokens):
    """Returns a compiled function from a PRNG key to the logits in training."""
    return jax.jit(
        lambda key: module.apply(variables, tokens, train=True, rngs={"dropout": key}).logits
    )


def test_dropout_is_active_only_in_training(tmp_path):
    save(tmp_path, "bert", num_hidden_layers=1)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [6, 6], 6)
    train = with_dropout(module, variables, tokens)
    first, same, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3
    config = dataclasses.replace(
        module.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    without = with_dropout(module.clone(config=config), variables, tokens)
    np.testing.assert_allclose(
        without(jax.random.key(0)), logits(module, variables, tokens), atol=1e-5
    )


class DropoutShapes(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the shapes of the random masks that PyTorch draws."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "dropout" in str(function) or "bernoulli" in str(function):
            self.shapes.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_applied_where_transformers_applies_it(kind, tmp_path):
    save(tmp_path, kind, num_hidden_layers=2)
    reference = KINDS[kind][1].from_pretrained(tmp_path, attn_implementation="eager").train()
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [6, 5], 6)
    with DropoutShapes() as drawn:
        in_torch(reference, tokens)
    with jax.disable_jit():  # All operations are then in one list.
        program = jax.make_jaxpr(with_dropout(module, variables, tokens))(jax.random.key(0))
    bits = [x.outvars[0].aval for x in program.eqns if x.primitive.name == "random_bits"]
    assert len(bits) > 2 * 2
    assert [mask.shape for mask in bits] == drawn.shapes


def test_distilbert_ignores_token_types(tmp_path):
    save(tmp_path, "distilbert", num_hidden_layers=1)
    module, variables = load(tmp_path)
    assert variables["params"]["embeddings"].keys() == {"word", "position", "norm"}
    tokens = random_tokens(module.config, [6, 5], 6)
    others = Tokens(tokens.ids, np.ones_like(tokens.ids), tokens.lengths)
    np.testing.assert_array_equal(
        logits(module, variables, tokens), logits(module, variables, others)
    )


def test_mean_over_dropout_is_close_to_the_logits_without_dropout(tmp_path):
    # Inverted dropout keeps the expectation; this network is almost linear at this scale.
    save(tmp_path, "bert", num_hidden_layers=1, attention_probs_dropout_prob=0.5)
    module, variables = load(tmp_path)
    module = module.clone(config=dataclasses.replace(module.config, hidden_dropout_prob=0.0))
    tokens = random_tokens(module.config, [20], 20)
    keys = jax.random.split(jax.random.key(0), 500)
    samples = jax.vmap(with_dropout(module, variables, tokens))(keys)
    std = samples.std(axis=0)
    assert std.min() > 0.01
    error = np.abs(samples.mean(axis=0) - logits(module, variables, tokens))
    assert (error < std).all()


@jax.numpy_dtype_promotion("standard")
def test_bfloat16_is_close_to_float32_and_gives_float32_logits(tmp_path):
    save(tmp_path, "bert", initializer_range=0.1, num_hidden_layers=2)
    module, variables = load(tmp_path)
    half, _ = load(tmp_path, dtype=jnp.bfloat16)
    tokens = random_tokens(module.config, [12, 5, 9], 12)
    outputs = jax.jit(half.apply)(variables, tokens)
    assert outputs.logits.dtype == jnp.float32
    assert outputs.features["last_hidden_state"].dtype == jnp.bfloat16
    expected = logits(module, variables, tokens)
    np.testing.assert_allclose(outputs.logits, expected, atol=0.05 * np.abs(expected).max())
    parameters = jax.eval_shape(half.init, jax.random.key(0), tokens)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}


def test_only_biases_and_scales_are_vectors(tmp_path):
    # The optimizer excludes vectors from weight decay.
    save(tmp_path, "roberta", num_hidden_layers=1)
    _, variables = load(tmp_path)
    for path, leaf in jax.tree.leaves_with_path(variables):
        name = path[-1].key
        assert (leaf.ndim == 1) == (name in ("bias", "scale")), (path, leaf.shape)
