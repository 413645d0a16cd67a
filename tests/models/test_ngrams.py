import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import models
from akd_jax.data import characters
from akd_jax.host.errors import InputError
from akd_jax.models import ngrams
from akd_jax.types import Tokens

TEXTS = np.array([["foo"], ["a longer text"], [""], ["東京"]], object)


def tokens_of(texts=TEXTS, length=16):
    return characters.tokenise(texts, length)[0]


def python_hash(codes):
    """The hash of an n-gram, in Python's integers."""
    state = 2166136261
    for code in codes:
        state = ((state ^ code) * 16777619) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        state = ((state ^ (state >> shift)) * factor) % 2**32
    return state


def python_ngrams(codes):
    """All n-grams of one to three characters."""
    return [codes[i : i + n] for n in (1, 2, 3) for i in range(len(codes) - n + 1)]


def initialise(spec, tokens, classes=5):
    """A module and random variables in which no scale is 1 and no bias is 0."""
    module = models.build(spec, classes)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape) * rng.choice([-1, 1], x.shape)),
        jax.eval_shape(module.init, jax.random.key(0), tokens),
    )
    running = variables["batch_stats"]["BatchNorm_0"]
    running["var"] = np.abs(running["var"])
    return module, variables


def test_hashes_of_a_word():
    tokens = Tokens(np.int32([[102, 111, 111, 0]]), np.zeros((1, 4), np.int32), np.int32([3]))
    hashes, is_real = ngrams.hash_ngrams(tokens)
    assert is_real.tolist() == [[1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0]]
    # The words of FNV's published test vectors, and the last step of MurmurHash3 by hand.
    fnv = {"foo": 0xA9F37ED7, "fo": 0x6222E842, "f": 0xE30C2799}
    for word, column in (("f", 0), ("fo", 4), ("foo", 8)):
        x = fnv[word]
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        assert int(hashes[0, column]) == x ^ (x >> 16)


def test_hashes_of_long_characters_differ():
    # The characters differ only in high bits, the buckets in low ones.
    codes = 0x10 + 0x1000 * np.arange(200, dtype=np.int32)[:, None]
    tokens = Tokens(codes, np.zeros_like(codes), np.ones(200, np.int32))
    rows = np.asarray(ngrams.hash_ngrams(tokens)[0][:, 0]) % 4096
    assert len(set(rows.tolist())) > 190


def test_texts_of_a_pair_have_different_ngrams():
    tokens = tokens_of(np.array([["ab", "ab"]], object), 7)
    hashes, is_real = ngrams.hash_ngrams(tokens)
    unigrams = hashes[0, :7].tolist()
    assert is_real[0, :7].all()
    assert len(set(unigrams)) == 7


@pytest.mark.parametrize("hidden", [0, 6])
def test_outputs_equal_numpy(hidden):
    tokens = tokens_of()
    module, variables = initialise(f"ngrams:7x4{',6' if hidden else ''}", tokens)
    outputs = jax.jit(module.apply)(variables, tokens)
    params, running = variables["params"], variables["batch_stats"]["BatchNorm_0"]
    table = params["embedding"]["embedding"]
    mean = np.stack(
        [
            np.mean([table[python_hash(gram) % 7] for gram in python_ngrams(codes)], axis=0)
            for codes in ([2, *map(ord, text), 3] for (text,) in TEXTS)
        ]
    )
    x = (mean - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    x = x * params["BatchNorm_0"]["scale"] + params["BatchNorm_0"]["bias"]
    if hidden:
        x = np.maximum(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    logits = x @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    assert outputs.features.keys() == {"embedding", "pooled"}
    np.testing.assert_allclose(outputs.features["embedding"], mean, atol=1e-5)
    np.testing.assert_allclose(outputs.features["pooled"], x, atol=1e-4)
    np.testing.assert_allclose(outputs.logits, logits, atol=1e-4)
    np.testing.assert_array_equal(outputs.head.kernel, params["classifier"]["kernel"])
    np.testing.assert_array_equal(outputs.mask.sum(axis=1), tokens.lengths)


def test_padding_changes_nothing():
    tokens, longer = tokens_of(), tokens_of(length=23)
    module, variables = initialise("ngrams:50x4,3", tokens)
    longer = longer.replace(  # What padding holds does not matter.
        ids=np.where(longer.mask, longer.ids, 9), token_type_ids=np.int32(~longer.mask)
    )

    def loss(variables, tokens):
        outputs, _ = module.apply(variables, tokens, train=True, mutable=["batch_stats"])
        return jnp.square(outputs.logits).sum()

    one, other = (jax.jit(jax.value_and_grad(loss))(variables, x) for x in (tokens, longer))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, other)


def test_empty_rows_and_bfloat16_are_finite():
    tokens = Tokens(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.int32), np.int32([0, 1]))
    module = models.build("ngrams:50x4,3", 5, jnp.bfloat16)
    outputs, _ = module.init_with_output(jax.random.key(0), tokens)
    assert outputs.logits.dtype == outputs.features["pooled"].dtype == jnp.float32
    assert np.isfinite(outputs.logits).all()


@pytest.mark.parametrize(
    "argument", ["", "64", "64x", "0x8", "64x8,", "64x8,0", "64x8,4,4", "9999999999x8"]
)
def test_malformed_specifications_are_rejected(argument):
    with pytest.raises(InputError, match=f"HIDDEN .*, got 'ngrams:{argument}'; write it as"):
        models.build(f"ngrams:{argument}", 5)
