"""Decoders against GPT-2 in transformers, and their caches."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from akd_jax import models
from akd_jax.host.errors import InputError
from akd_jax.models.decoder import DecoderConfig
from akd_jax.models.huggingface import Folder, Gpt2Weights, gpt2
from akd_jax.models.network import Model
from akd_jax.training.generation import Writing, generate, greedy, sample
from akd_jax.types import COMPLETION, TargetVocabulary
from tests.support.errors import error_of
from tests.support.gpt2 import SIZE, in_torch, load, save_gpt2, texts

PAD, END, START = 0, 1, 2
WRITING = Writing(9, START, END, PAD)


def assert_equal_where_real(actual, expected, inputs, atol=1e-4):
    real = np.asarray(inputs.mask)
    np.testing.assert_allclose(np.asarray(actual)[real], expected[real], atol=atol)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "relu", "n_inner": 20, "layer_norm_epsilon": 1e-3},
        {"activation_function": "gelu", "n_embd": 24, "n_head": 1},
    ],
)
def test_logits_equal_those_of_gpt2(tmp_path, changes):
    reference = save_gpt2(tmp_path, **changes)
    module, variables = load(tmp_path)
    inputs = texts([5, 9, 2, 0], [4, 6, 1, 3])
    outputs = jax.jit(module.apply)(variables, inputs)
    assert outputs.logits.dtype == jnp.float32
    assert_equal_where_real(outputs.logits, in_torch(reference, inputs), inputs)
    completion = np.asarray(inputs.mask) & (inputs.token_type_ids == COMPLETION)
    np.testing.assert_array_equal(outputs.mask, completion)


def test_files_without_prefix_are_read(tmp_path):
    reference = save_gpt2(tmp_path)
    reference.transformer.save_pretrained(tmp_path)  # 'wte.weight', not 'transformer.wte.weight'.
    module, variables = load(tmp_path)
    inputs = texts([5, 2], [4, 1])
    logits = module.apply(variables, inputs).logits
    assert_equal_where_real(logits, in_torch(reference, inputs), inputs)


def test_padding_changes_nothing(tmp_path):
    save_gpt2(tmp_path)
    module, variables = load(tmp_path)
    short, long = (texts([5, 2], [4, 1], length=length) for length in (9, 14))
    ids = np.where(np.asarray(long.mask), 0, 7)  # Other tokens in the padding.
    ids[:, :9] += short.ids
    padded = long.replace(ids=np.where(np.asarray(long.mask), ids, 7).astype(np.int32))
    expected = module.apply(variables, short).logits
    actual = module.apply(variables, padded).logits[:, :9]
    assert_equal_where_real(actual, np.asarray(expected), short, atol=1e-5)


def test_new_tokens_have_the_mean_embedding(tmp_path):
    reference = save_gpt2(tmp_path)
    module, variables = load(tmp_path, SIZE + 3)
    table = reference.transformer.wte.weight.detach().numpy()
    actual = variables["params"]["tokens"]["embedding"]
    np.testing.assert_array_equal(actual[:SIZE], table)
    np.testing.assert_allclose(actual[SIZE:], np.tile(table.mean(axis=0), (3, 1)), rtol=1e-6)
    inputs = texts([5, 2], [4, 1])
    logits = module.apply(variables, inputs).logits[..., :SIZE]
    assert_equal_where_real(logits, in_torch(reference, inputs), inputs)


def test_written_folder_is_read_by_transformers(tmp_path):
    save_gpt2(tmp_path / "in", n_inner=20, resid_pdrop=0.2, embd_pdrop=0.3)
    module, variables = load(tmp_path / "in")
    variables = jax.tree.map(
        lambda x: x + 0.01 * np.cos(np.arange(x.size)).reshape(x.shape), variables
    )
    target = TargetVocabulary("", SIZE, START, END, PAD, decode=list)
    (tmp_path / "out").mkdir()
    gpt2.write_folder(tmp_path / "out", module.config, variables, target)
    written = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    inputs = texts([5, 9, 2], [4, 6, 1])
    logits = module.apply(variables, inputs).logits
    assert_equal_where_real(logits, in_torch(written, inputs), inputs)
    again, read = load(tmp_path / "out")
    assert again.config == module.config
    jax.tree.map(np.testing.assert_array_equal, read, jax.tree.map(np.float32, variables))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    save_gpt2(folder)
    return load(folder)


@functools.cache
def compiled(module):
    return jax.jit(module.apply)


def next_logits(network, tokens):
    """The logits after some tokens, by the network without a cache."""
    module, variables = network
    whole = texts([len(tokens)], [0], length=24)
    whole = whole.replace(ids=np.int32([[*tokens, *[0] * (24 - len(tokens))]]))
    return np.array(compiled(module)(variables, whole).logits[0, len(tokens) - 1])


def test_cached_steps_equal_the_whole_text(network):
    module, variables = network
    inputs = texts([5, 0, 2, 7], [6, 6, 6, 6])
    expected = np.asarray(module.apply(variables, inputs).logits)
    cache = module.apply(variables, inputs, 6, method="start")
    starts = np.array([5, 0, 2, 7])
    for position in range(6):
        tokens = inputs.ids[np.arange(4), starts + position]
        logits, cache = module.apply(variables, cache, tokens, jnp.int32(position), method="step")
        np.testing.assert_allclose(logits, expected[np.arange(4), starts + position], atol=1e-4)


def test_greedy_texts_equal_those_without_a_cache(network):
    module, variables = network
    inputs = texts([5, 3, 2, 7], [1, 1, 1, 1])
    decode = functools.partial(greedy, writing=WRITING)
    model = Model(variables, module.apply)
    written = np.asarray(jax.jit(lambda x: generate(model, x, WRITING.length, decode))(inputs))
    for row, prompt in enumerate([5, 3, 2, 7]):
        tokens = [*inputs.ids[row, :prompt].tolist(), START]
        for word in written[row, 1:].tolist():
            logits = next_logits(network, tokens)
            logits[[START, PAD]] = -np.inf
            assert word == logits.argmax()
            tokens.append(word)
            if word == END:
                break


def test_samples_stay_among_the_most_probable_and_depend_on_their_key(network):
    module, variables = network
    inputs = texts([3] * 6, [1] * 6)
    writing = dataclasses.replace(WRITING, others=(5, 6))
    model = Model(variables, module.apply)

    def drawn(keys):
        def decode(step, cache, rows):
            return sample(step, cache, keys[:rows], writing, top_k=3)

        rows = jax.tree.map(lambda x: x[: len(keys)], inputs)
        return np.asarray(generate(model, rows, writing.length, decode))

    keys = jax.random.split(jax.random.key(0), 6)
    written = drawn(keys)
    for row in range(6):
        tokens = [*inputs.ids[row, :3].tolist(), START]
        for word in written[row, 1:].tolist():
            logits = next_logits(network, tokens)
            logits[[START, PAD, 5, 6]] = -np.inf
            assert word in np.argsort(-logits)[:3]
            tokens.append(word)
            if word == END:
                break
    np.testing.assert_array_equal(drawn(keys[:2]), written[:2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "expected scale_attn_by_inverse_layer_idx"),
        ({"activation_function": "tanh"}, "activation_function: expected 'relu', 'gelu'"),
        ({"n_head": 5}, "expected a width divisible by the 5 heads"),
    ],
)
def test_unsupported_settings_are_refused_in_one_line(tmp_path, changes, message):
    transformers.GPT2Config(**{"n_embd": 16, "n_head": 4, **changes}).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        gpt2.read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    save_gpt2(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())

    def match(**changes):
        (tmp_path / "config.json").write_text(json.dumps({**settings, **changes}))
        module = models.build(f"huggingface:{tmp_path}", SIZE)
        shapes = jax.eval_shape(module.init, jax.random.key(0), texts([2], [2]))
        return error_of(Gpt2Weights(Folder(tmp_path)).match, shapes)

    weights = tmp_path / "model.safetensors"
    assert match(n_layer=4) == (
        f"{weights}: expected the tensor transformer.h.3.attn.c_attn.bias, got none; fetch the"
        " files of one model"
    )
    assert match(n_layer=2) == (
        f"{weights}: expected the tensors of 2 layers, as in config.json, got"
        " transformer.h.2.attn.c_attn.bias; fetch the files of one model"
    )
    assert "with the shape [20], got [64]" in match(n_inner=20)
    assert match(vocab_size=SIZE + 1) == (
        f"{weights}: expected the tensor transformer.wte.weight with the shape [{SIZE + 1}, 16],"
        f" got [{SIZE}, 16]; fetch the files of one model"
    )


def test_tokens_that_the_data_set_lacks_are_left_out(tmp_path):
    """As of a table that was padded to a round number of rows."""
    reference = save_gpt2(tmp_path)
    module, variables = load(tmp_path, SIZE - 3)
    inputs = texts([5, 2], [4, 1], size=SIZE - 3)
    logits = module.apply(variables, inputs).logits
    assert_equal_where_real(logits, in_torch(reference, inputs)[..., : SIZE - 3], inputs)


def test_specifications(tmp_path):
    assert models.build("decoder:2x128", 50).config == DecoderConfig(
        vocabulary=50,
        layers=2,
        width=128,
        heads=2,
        inner_width=512,
        activation="gelu_new",
        norm="pre",
        attention_dropout=0.1,
    )
    assert models.build("decoder:1x8,heads=4", 50).config.heads == 4
    assert error_of(models.build, "decoder:2", 50) == (
        "expected decoder:LAYERSxWIDTH or decoder:LAYERSxWIDTH,heads=N with numbers from 1 to"
        " 9999999, got 'decoder:2'; write it in this form"
    )
    assert error_of(models.build, "decoder:1x8,heads=3", 50) == (
        "decoder:1x8,heads=3: expected a width divisible by the 3 heads, got 8; change it"
    )
