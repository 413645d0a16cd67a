"""Networks for codes of speech: padding, devices, frozen parts, and specifications."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import models
from akd_jax.data import codes
from akd_jax.host.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.models.spans import SpanMask, SpanMasks
from akd_jax.models.speech_heads import LightHead
from akd_jax.types import Batch, Tokens
from tests.support.steps import (
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)

LENGTHS = np.int32([9, 4, 1, 6])
LIGHT, DEEP = "speech:20,2x16,light:6", "speech:20,1x16,deepspeech:6"


def utterances(lengths=LENGTHS, positions=None, seed=0):
    """Random codes as tokens; padding holds arbitrary codes."""
    rng = np.random.default_rng(seed)
    lengths = np.int32(lengths)
    shape = len(lengths), positions or lengths.max()
    ids = codes.FIRST_CODE + rng.integers(0, 20, shape, np.int32)
    ids[:, 0] = codes.START
    return Tokens(ids, np.zeros_like(ids), lengths)


def build(spec, dropout=0.0):
    """A network with large weights, whose dropout is off by default, and its variables."""
    module = models.build(spec, 3)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    module = module.clone(config=dataclasses.replace(module.config, **rates))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), utterances())
    variables = jax.tree.map(lambda x: np.float32(rng.uniform(-0.5, 0.5, x.shape)), shapes)
    for name, tree in variables.get("batch_stats", {}).get("head", {}).items():
        variables["batch_stats"]["head"][name]["var"] = 1 + tree["var"]
    return module, variables


@pytest.mark.parametrize("spec", [LIGHT, DEEP], ids=["light", "deepspeech"])
def test_outputs_of_an_utterance_do_not_depend_on_the_batch(spec):
    module, variables = build(spec)
    apply, tokens = jax.jit(module.apply), utterances(positions=14)
    outputs = apply(variables, tokens)
    assert np.ptp(outputs.logits, axis=0).min() > 1e-3
    for row in (1, 0, 2)[: 3 if spec == LIGHT else 1]:
        length = LENGTHS[row]
        alone = Tokens(
            tokens.ids[[row], :length], tokens.token_type_ids[[row], :length], LENGTHS[[row]]
        )
        single = apply(variables, alone)
        np.testing.assert_allclose(single.logits[0], outputs.logits[row], rtol=1e-5, atol=1e-5)
        for name in ("sentence", "pooled"):
            np.testing.assert_allclose(
                single.features[name][0], outputs.features[name][row], rtol=1e-5, atol=1e-5
            )


def test_features_and_last_layer():
    module, variables = build(LIGHT)
    outputs = jax.jit(module.apply)(variables, utterances())
    features = outputs.features
    assert {"hidden_0", "hidden_1", "hidden_2"} <= features.keys()
    assert features["frames"].shape == (4, 9, 12)
    last = features["last_hidden_state"]
    np.testing.assert_array_equal(last, features["hidden_2"])
    np.testing.assert_array_equal(features["sentence"], last[:, 0])
    means = [state[:length].mean(axis=0) for state, length in zip(last, LENGTHS, strict=True)]
    np.testing.assert_allclose(features["mean_state"], means, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features["frame_mask"].sum(axis=1), LENGTHS)
    frames = np.where(features["frame_mask"][..., None], features["frames"], -np.inf)
    np.testing.assert_array_equal(features["pooled"], frames.max(axis=1))
    head = outputs.head
    np.testing.assert_allclose(
        features["pooled"] @ head.kernel + head.bias, outputs.logits, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(outputs.mask.sum(axis=1), LENGTHS)
    assert set(variables["params"]) == {"encoder", "head", "classifier"}


def test_an_update_is_the_same_on_four_devices():
    module, variables = build(LIGHT)
    # The devices have different numbers of positions; the last row only fills up the batch.
    tokens = utterances([9, 2, 8, 7, 1, 1, 5, 3])
    weights = np.float32([1, 0.5, 2, 1, 1, 1, 1, 0])
    batch = Batch(tokens, np.int32([0, 1, 2, 0, 1, 2, 0, 1]), weights)
    state = make_state(
        module, tokens, loss=supervised_loss, variables=variables, optimizer=optax.sgd(0.1)
    )
    one, _ = update_on_one(state, {}, [batch])
    four, _ = update_on_four(state, {}, [batch])
    assert_close(arrays(four), arrays(one), 1e-5)


@pytest.mark.slow  # tests/training compares batch norm on devices.
def test_the_deepspeech_head_in_training_is_the_same_on_four_devices():
    module, variables = build(DEEP)
    tokens = utterances([9, 2, 8, 7, 1, 1, 5, 3])

    def logits(tokens, axis_name=None):
        outputs, changed = module.apply(
            variables, tokens, train=True, axis_name=axis_name, mutable=["batch_stats"]
        )
        return outputs.logits, changed

    expected, stats = jax.jit(logits)(tokens)
    shares = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), tokens)
    actual, all_stats = jax.pmap(functools.partial(logits, axis_name="x"), axis_name="x")(shares)
    np.testing.assert_allclose(actual.reshape(8, 3), expected, rtol=1e-4, atol=1e-5)
    stats, all_stats = (dict(jax.tree.leaves_with_path(tree)) for tree in (stats, all_stats))
    for path, value in stats.items():
        tiled = np.broadcast_to(value, all_stats[path].shape)
        np.testing.assert_allclose(all_stats[path], tiled, rtol=1e-4, atol=1e-5, err_msg=str(path))


def update(module, variables, *, key=0, **options):
    """The mean loss of a batch before an update on one device, and the state after it."""
    tokens = utterances()
    batch = Batch(tokens, np.int32([0, 1, 2, 0]), np.ones(4, np.float32))
    state = make_state(
        module,
        tokens,
        loss=supervised_loss,
        variables=variables,
        key=jax.random.key(key),
        **options,
    )
    state, (metrics,) = update_on_one(state, {}, [batch])
    return means(metrics)["loss"], state


def changed(before, after):
    return [
        not np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)
    ]


def test_a_frozen_encoder_has_no_dropout():
    module, variables = build(LIGHT, dropout=0.5)
    losses = [update(module, variables, key=key, frozen=("encoder",)) for key in range(2)]
    (one, state), (other, _) = losses
    assert one == other
    logits = jax.jit(module.apply)(variables, utterances()).logits
    labels = np.arange(4) % 3
    expected = np.mean([jax.nn.logsumexp(x) - x[y] for x, y in zip(logits, labels, strict=True)])
    assert one == pytest.approx(expected, rel=1e-5)
    params = state.model.variables["params"]
    for part, trained in (("encoder", False), ("head", True), ("classifier", True)):
        assert set(changed(variables["params"][part], params[part])) == {trained}
    free = [update(module, variables, key=key)[0] for key in range(2)]
    assert abs(free[0] - free[1]) > 1e-3


def test_a_frozen_head_keeps_its_statistics():
    module, variables = build(DEEP)
    _, state = update(module, variables, frozen=("head",))
    after = state.model.variables
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], variables["batch_stats"])
    jax.tree.map(
        np.testing.assert_array_equal, after["params"]["head"], variables["params"]["head"]
    )
    assert any(changed(variables["params"]["encoder"], after["params"]["encoder"]))


def test_masks_of_states_reach_only_the_head_and_only_in_training():
    module, variables = build(LIGHT)
    # All positions but the first, and no channels.
    masks = SpanMasks(SpanMask(1, 1), SpanMask(0, 1))
    masked = functools.partial(module.apply, state_masks=masks)
    train = jax.jit(functools.partial(masked, train=True))
    outputs = train(variables, utterances(), rngs={"dropout": jax.random.key(0)})
    plain = jax.jit(module.apply)(variables, utterances())
    states = plain.features["last_hidden_state"]
    np.testing.assert_allclose(outputs.features["last_hidden_state"], states, rtol=1e-5, atol=1e-6)
    first = np.where(np.arange(9)[:, None] < 1, states, 0)
    head = functools.partial(LightHead(6).apply, train=False, axis_name=None)
    frames, _ = jax.jit(head)({"params": variables["params"]["head"]}, first, LENGTHS)
    np.testing.assert_allclose(outputs.features["frames"], frames, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(jax.jit(masked)(variables, utterances()).logits, plain.logits)


def test_published_sizes():
    config = models.build("speech:102400,12x768,deepspeech:768", 31).config
    assert (config.hidden_size, config.num_hidden_layers) == (768, 12)
    assert (config.num_attention_heads, config.intermediate_size) == (12, 3072)
    assert (config.max_position_embeddings, config.type_vocab_size) == (2048, 1)


def test_special_tokens_are_those_of_the_data():
    spec = "speech:20,1x16"
    module = models.build(spec, 3)
    assert models.number_of_codes(spec) == module.codes == 20
    assert module.config.vocab_size == codes.FIRST_CODE + 20
    assert module.config.pad_token_id == codes.PADDING


@pytest.mark.parametrize(
    ("argument", "heads", "kind", "width"),
    [
        ("256,3x128", 2, "light", 128),
        ("256,3x96,deepspeech", 1, "deepspeech", 96),
        ("256,3x32,light:7", 1, "light", 7),
    ],
)
def test_specifications(argument, heads, kind, width):
    module = models.build(f"speech:{argument}", 4)
    assert module.config.num_attention_heads == heads
    assert (module.head_kind, module.head_width, module.num_classes) == (kind, width, 4)


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "256",
        "256,3",
        "256,3x",
        "0,3x64",
        "256,3x64,",
        "256,3x64,lstm",
        "256,3x64,light:",
        "256,x64",
    ],
)
def test_malformed_specifications_are_rejected(argument):
    message = f"expected speech:CODES,LAYERSxWIDTH .*, got 'speech:{argument}'; write it as in"
    with pytest.raises(InputError, match=message):
        models.build(f"speech:{argument}", 5)


def test_widths_that_the_attention_cannot_divide_are_rejected():
    with pytest.raises(
        InputError, match=re.escape("speech:9,1x200: expected a width that is divisible by 3,")
    ):
        models.build("speech:9,1x200", 5)
    with pytest.raises(InputError, match="expected speech:CODES,LAYERSxWIDTH, got 'resnet:8'"):
        models.number_of_codes("resnet:8")


@jax.numpy_dtype_promotion("standard")  # Flax's layer norm promotes bfloat16 to float32.
def test_bfloat16_has_float32_parameters_and_logits():
    tokens = utterances([9, 4, 3, 6])
    for spec in (LIGHT, DEEP):
        module, variables = build(spec)
        half = module.clone(dtype=jnp.bfloat16)
        created, outputs = jax.eval_shape(
            lambda half=half: half.init_with_output(jax.random.key(0), tokens)[::-1]
        )
        assert {x.dtype for x in jax.tree.leaves(created)} == {jnp.dtype("float32")}
        assert outputs.features["last_hidden_state"].dtype == jnp.bfloat16
        for array in (outputs.logits, outputs.features["pooled"], outputs.features["sentence"]):
            assert array.dtype == jnp.float32
    module, variables = build(LIGHT)
    half = module.clone(dtype=jnp.bfloat16)
    actual, expected = (jax.jit(x.apply)(variables, tokens).logits for x in (half, module))
    np.testing.assert_allclose(actual, expected, atol=0.05)
