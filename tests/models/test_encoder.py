import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from akd_jax import models
from akd_jax.data.text import tokenise
from akd_jax.models import huggingface
from akd_jax.types import Task, Tokens
from tests.support.encoders import KINDS, MINILM, in_torch, load, random_tokens, save, start

SENTENCES = (
    'A film of quiet power, and of "naïve" charm.',
    "Dull.",
    "It's stylishly directed with verve, but the last half hour undoes what the first two built.",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "relu", "num_attention_heads": 1, "num_hidden_layers": 1},
        {"hidden_act": "gelu_new", "hidden_size": 24, "layer_norm_eps": 1e-3},
    ],
    ids=["default", "relu", "gelu_new"],
)
def test_logits_are_those_of_transformers(kind, changes, tmp_path):
    reference = save(tmp_path, kind, **changes)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [12, 1, 7, 30, 3], 30)
    expected = in_torch(reference, tokens).logits.numpy()
    assert np.ptp(expected, axis=0).min() > 0.1  # Else agreement would mean little.
    found = jax.jit(module.apply)(variables, tokens).logits
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind, tmp_path):
    save(tmp_path, kind)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [12, 5], 12)
    longer = Tokens(
        # What stands beyond a text's length must not matter, whatever it is.
        np.pad(tokens.ids, ((0, 0), (0, 9)), constant_values=7),
        np.pad(tokens.token_type_ids, ((0, 0), (0, 9))),
        tokens.lengths,
    )
    np.testing.assert_allclose(
        module.apply(variables, longer).logits, module.apply(variables, tokens).logits, atol=1e-5
    )


def test_minilms_last_hidden_state_is_that_of_transformers():
    reference = transformers.AutoModel.from_pretrained(MINILM).eval()
    folder = huggingface.Folder(MINILM)
    module = models.build(f"huggingface:{MINILM}", 2)
    texts = np.array([[text] for text in SENTENCES], object)
    tokens, _ = tokenise(folder.load_tokenizer(), texts, 32)
    variables = start(module, huggingface.Weights(folder, Task(("a", "b"))))
    outputs = jax.jit(module.apply)(variables, tokens)
    expected = in_torch(reference, tokens).last_hidden_state.numpy()
    real = np.arange(32) < tokens.lengths[:, None]
    found = np.asarray(outputs.features["last_hidden_state"])
    np.testing.assert_allclose(found[real], expected[real], atol=1e-4)


def test_dropout_is_on_in_training_alone(tmp_path):
    save(tmp_path, "bert")
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [6, 6], 6)
    once, again, other = (
        module.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(seed)}).logits
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-3
    config = dataclasses.replace(
        module.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    sure = module.clone(config=config)
    np.testing.assert_allclose(
        sure.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(0)}).logits,
        module.apply(variables, tokens).logits,
        atol=1e-5,
    )


def test_the_mean_over_dropout_is_near_the_network_without(tmp_path):
    # Inverted dropout keeps the expectation: of a network that is almost linear at this scale.
    save(tmp_path, "bert", num_hidden_layers=1, attention_probs_dropout_prob=0.5)
    module, variables = load(tmp_path)
    module = module.clone(config=dataclasses.replace(module.config, hidden_dropout_prob=0.0))
    tokens = random_tokens(module.config, [20], 20)
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = jax.vmap(
        lambda key: module.apply(variables, tokens, train=True, rngs={"dropout": key}).logits
    )(keys)
    sure = module.apply(variables, tokens).logits
    spread = drawn.std(axis=0)
    assert spread.min() > 0.01
    assert (np.abs(drawn.mean(axis=0) - sure) < spread).all()


@jax.numpy_dtype_promotion("standard")
def test_bfloat16_is_near_float32_and_gives_float32_logits(tmp_path):
    save(tmp_path, "bert", initializer_range=0.1)
    module, variables = load(tmp_path)
    half, _ = load(tmp_path, dtype=jnp.bfloat16)
    tokens = random_tokens(module.config, [12, 5, 9], 12)
    found, expected = half.apply(variables, tokens), module.apply(variables, tokens)
    assert found.logits.dtype == jnp.float32
    assert found.features["last_hidden_state"].dtype == jnp.bfloat16
    scale = np.abs(expected.logits).max()
    np.testing.assert_allclose(found.logits, expected.logits, atol=0.05 * scale)
    parameters = jax.eval_shape(half.init, jax.random.key(0), tokens)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}


def test_biases_are_vectors_so_that_weight_decay_spares_them(tmp_path):
    save(tmp_path, "roberta")
    _, variables = load(tmp_path)
    for path, leaf in jax.tree.leaves_with_path(variables):
        name = path[-1].key
        assert (leaf.ndim == 1) == (name in ("bias", "scale")), (path, leaf.shape)
