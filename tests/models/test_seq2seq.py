"""Encoder-decoder Transformers against Marian in transformers, and their caches."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from akd_jax.host.errors import InputError
from akd_jax.models.huggingface import marian
from akd_jax.models.seq2seq import Seq2SeqConfig, Transformer
from akd_jax.types import SOURCE, TARGET
from tests.support.marian import SIZE, in_torch, load, save_marian, texts

TINY = {"source_size": SIZE, "target_size": SIZE, "width": 8, "encoder_layers": 1}
TINY |= {"decoder_layers": 2, "heads": 2, "inner_width": 12, "pad": SIZE - 1, "end": 0}


def assert_equal_where_real(actual, expected, inputs, atol=1e-4):
    """Compares logits at the positions of the contexts that hold a token."""
    real = np.asarray(inputs[TARGET].mask)
    np.testing.assert_allclose(np.asarray(actual)[real], expected[real], atol=atol)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "relu", "scale_embedding": False, "d_model": 20},
        {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": SIZE + 5},
    ],
)
def test_logits_equal_those_of_marian(tmp_path, changes):
    reference = save_marian(tmp_path, **changes)
    module, variables = load(tmp_path)
    inputs = texts([5, 9, 2], [4, 6, 1])
    outputs = jax.jit(module.apply)(variables, inputs)
    assert outputs.logits.dtype == jnp.float32
    np.testing.assert_array_equal(outputs.mask, inputs[TARGET].mask)
    assert_equal_where_real(outputs.logits, in_torch(reference, inputs), inputs)


def test_written_folder_is_read_by_transformers(tmp_path):
    # The folder for the other settings shares embeddings; the network does not.
    save_marian(tmp_path / "in")
    save_marian(tmp_path / "separate", share_encoder_decoder_embeddings=False)
    module, variables = load(tmp_path / "separate")
    variables = jax.tree.map(
        lambda x: x + 0.01 * np.cos(np.arange(x.size)).reshape(x.shape), variables
    )
    marian.write_folder(tmp_path / "out", tmp_path / "in", module.config, variables)
    written = transformers.MarianMTModel.from_pretrained(tmp_path / "out").eval()
    inputs = texts([5, 9, 2], [4, 6, 1])
    outputs = jax.jit(module.apply)(variables, inputs)
    assert_equal_where_real(outputs.logits, in_torch(written, inputs), inputs)
    again, read = load(tmp_path / "out")
    assert again.config == module.config
    jax.tree.map(np.testing.assert_array_equal, read, jax.tree.map(np.float32, variables))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize_before": True}, "expected normalize_before False, got True"),
        ({"tie_word_embeddings": False}, "expected tie_word_embeddings True, got False"),
        ({"pad_token_id": 60000}, "expected pad below 58101, the number of tokens of the target"),
        ({"decoder_ffn_dim": 32}, "expected encoder_ffn_dim and decoder_ffn_dim to be equal"),
        (
            {"activation_function": "tanh"},
            "activation_function: expected 'relu', 'gelu'",
        ),
    ],
)
def test_unsupported_settings_are_refused_in_one_line(tmp_path, changes, message):
    transformers.MarianConfig(**{"d_model": 16, **changes}).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        marian.read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected a Hugging Face folder of the model_type marian"):
        marian.read_config(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="expected the model_type marian, got 'bert'"):
        marian.read_config(tmp_path)
    save_marian(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({name: x for name, x in settings.items() if name != "scale_embedding"})
    )
    with pytest.raises(InputError, match=r"config\.json: expected scale_embedding, got none"):
        marian.read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = marian.read_config(tmp_path)
    other = Transformer(Seq2SeqConfig(**{**vars(config), "decoder_layers": 4}))
    shapes = jax.eval_shape(other.init, jax.random.key(0), texts([3], [2]))
    with pytest.raises(
        InputError, match=r"expected the tensor model\.decoder\.layers\.3\..*, got none"
    ):
        marian.read_weights(tmp_path, shapes)
    other = Transformer(Seq2SeqConfig(**{**vars(config), "encoder_layers": 1}))
    shapes = jax.eval_shape(other.init, jax.random.key(0), texts([3], [2]))
    with pytest.raises(InputError, match=r"expected the layers .* got tensors of model\.encoder"):
        marian.read_weights(tmp_path, shapes)
    other = Transformer(Seq2SeqConfig(**{**vars(config), "inner_width": 20}))
    shapes = jax.eval_shape(other.init, jax.random.key(0), texts([3], [2]))
    with pytest.raises(InputError, match=r"fc1.* with the shape \[20.*\], got \[24"):
        marian.read_weights(tmp_path, shapes)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(InputError, match="expected a complete safetensors file, got: "):
        marian.read_weights(tmp_path, shapes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "pre"}, "expected a network with norm 'post', .*, got 'pre'"),
        ({"positions": "learned"}, "expected a network with positions 'sinusoidal', .*'learned'"),
        ({"tied": "none"}, "expected a network whose output layer is tied .* 'none'"),
    ],
)
def test_networks_that_are_no_marian_models_are_not_written(tmp_path, changes, message):
    module, variables = tiny(**changes)
    with pytest.raises(InputError, match=message):
        marian.write_folder(tmp_path / "out", tmp_path / "in", module.config, variables)
    assert not (tmp_path / "out").exists()


def logits_of(module, variables, inputs):
    """The logits in inference mode; compiled, which is faster than one operation at a time."""
    return jax.jit(module.apply)(variables, inputs).logits


def tiny(**changes):
    """A network with random weights, large enough to tell tokens apart."""
    return _cached(tuple(changes.items()))


@functools.cache
def _cached(changes):
    module = Transformer(Seq2SeqConfig(**{**TINY, "initializer_range": 0.5, **dict(changes)}))
    variables = jax.jit(module.init)(jax.random.key(0), texts([3], [2]))
    return module, variables


CHANGES = [
    {},
    {"norm": "pre", "positions": "learned", "tied": "none", "output_bias": False},
    {"tied": "target", "source_size": SIZE + 9, "activation": "gelu"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_cached_logits_equal_those_of_the_whole_context(changes):
    module, variables = tiny(**changes)
    inputs = texts([5, 9, 2], [7, 7, 7])
    expected = logits_of(module, variables, inputs)

    @jax.jit
    def write(source, tokens):
        cache = module.apply(variables, {SOURCE: source}, 10, method="start")

        def step(cache, position):
            logits, cache = module.apply(
                variables, cache, tokens[:, position], position, method="step"
            )
            return cache, logits

        return jax.lax.scan(step, cache, jnp.arange(7))[1]

    logits = write(inputs[SOURCE], jnp.asarray(inputs[TARGET].ids))
    np.testing.assert_allclose(np.moveaxis(logits, 0, 1), expected, atol=1e-5)


@pytest.mark.parametrize("changes", CHANGES)
def test_logits_do_not_depend_on_padding_or_on_later_tokens(changes):
    module, variables = tiny(**changes)
    inputs = texts([5, 9, 2], [7, 7, 7])
    expected = logits_of(module, variables, inputs)
    alone = jax.tree.map(lambda x: x[:1], inputs)
    shorter = alone[SOURCE].replace(
        ids=alone[SOURCE].ids[:, :5], token_type_ids=alone[SOURCE].token_type_ids[:, :5]
    )
    alone = {SOURCE: shorter, TARGET: alone[TARGET]}
    np.testing.assert_allclose(logits_of(module, variables, alone), expected[:1], atol=1e-5)
    changed = inputs[TARGET].ids.copy()
    changed[:, 4:] = 3
    later = {**inputs, TARGET: inputs[TARGET].replace(ids=changed)}
    logits = logits_of(module, variables, later)
    np.testing.assert_allclose(logits[:, :4], expected[:, :4], atol=1e-5)
    assert np.abs(logits[:, 4:] - expected[:, 4:]).max() > 0.01


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_texts_longer_than_the_positions_are_refused(positions):
    module, variables = tiny(positions=positions, max_length=6)
    for lengths, side in (((7, 6), "source"), ((6, 7), "target")):
        with pytest.raises(ValueError, match=f"{side}: expected at most 6 tokens, got 7"):
            module.apply(variables, texts(*([length] for length in lengths)))
    source = texts([6], [2])[SOURCE]
    with pytest.raises(ValueError, match="target: expected at most 6 tokens, got 7"):
        module.apply(variables, {SOURCE: source}, 7, method="start")
    assert module.apply(variables, texts([6], [6])).logits.shape == (1, 6, SIZE)


def test_dropout_is_active_only_in_training():
    module, variables = tiny(dropout=0.3, attention_dropout=0.3)
    inputs = texts([5, 9, 2], [7, 7, 7])
    expected = logits_of(module, variables, inputs)

    @jax.jit
    def train(key):
        return module.apply(variables, inputs, train=True, rngs={"dropout": key}).logits

    one, two = (train(jax.random.key(n)) for n in range(2))
    np.testing.assert_array_equal(train(jax.random.key(0)), one)
    assert np.abs(one - two).max() > 0.01
    assert np.abs(one - expected).max() > 0.01


@jax.numpy_dtype_promotion("standard")  # JAX's attention promotes bfloat16 to float32.
def test_bfloat16_has_float32_parameters_and_logits():
    module, variables = tiny()
    inputs = texts([5, 9, 2], [7, 7, 7])
    low = Transformer(module.config, jnp.bfloat16)
    assert {
        x.dtype for x in jax.tree.leaves(jax.eval_shape(low.init, jax.random.key(0), inputs))
    } == {jnp.dtype("float32")}
    logits = logits_of(low, variables, inputs)
    assert logits.dtype == jnp.float32
    error = np.abs(logits - logits_of(module, variables, inputs))
    assert 0 < error.mean() < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "expected a width divisible by the 3 heads, got 8"),
        ({"source_size": SIZE + 1}, "expected one vocabulary for tied embeddings, got 24 and 23"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"start": SIZE}, "expected start below 23, the number of tokens of the target .*, got 23"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Seq2SeqConfig(**{**TINY, **changes})
