"""Heads of speech networks against PyTorch, which reads single utterances without padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax.models import speech_heads
from akd_jax.models.layers import MaskedBatchNorm
from tests.support import speech_heads as references

LENGTHS = np.int32([9, 4, 1, 6])
FRAMES = {"light": [9, 4, 1, 6], "deepspeech": [5, 2, 1, 3]}
STATES, WIDTH = 10, 6
KINDS = pytest.mark.parametrize("kind", ["light", "deepspeech"])


def random_states(positions=11):
    """States [B, T, D], with arbitrary values at padding."""
    states = np.random.default_rng(0).normal(size=(len(LENGTHS), positions, STATES))
    return np.float32(np.where(np.arange(positions)[:, None] < LENGTHS[:, None, None], states, 9))


def run(head, variables, states, *, train=False):
    """The frames, their number and their maxima; and the changed statistics of a head."""
    (frames, count), changed = head.apply(
        variables, states, LENGTHS, train=train, axis_name=None, mutable=["batch_stats"]
    )
    is_real = jnp.arange(frames.shape[1]) < count[:, None]
    return frames, count, speech_heads.masked_maximum(frames, is_real), changed


def assert_equal_frames(kind, frames, maxima, expected):
    """Compares frames [B, T', F] and their maxima with those of single utterances."""
    assert [*map(len, expected)] == FRAMES[kind]
    for row, wanted in enumerate(expected):
        np.testing.assert_allclose(frames[row, : len(wanted)], wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(maxima[row], wanted.amax(dim=0), rtol=1e-5, atol=1e-5)
    # Padding of zeros would change a maximum below 0.
    assert min(wanted.amax(dim=0).min() for wanted in expected) < 0


@KINDS
def test_heads_equal_pytorch_on_single_utterances(kind):
    reference = references.HEADS[kind](STATES, WIDTH).eval()
    states = random_states()
    with torch.no_grad():
        expected = reference.of_single(torch.from_numpy(states), LENGTHS)
    head = speech_heads.HEADS[kind](WIDTH)
    frames, count, maxima, _ = jax.jit(functools.partial(run, head))(reference.variables(), states)
    assert count.tolist() == FRAMES[kind]
    assert_equal_frames(kind, frames, maxima, expected)


@KINDS
def test_heads_and_their_gradients_equal_pytorch_in_training(kind):
    reference = references.HEADS[kind](STATES, WIDTH).train()
    head, states = speech_heads.HEADS[kind](WIDTH), random_states()
    tensor = torch.tensor(states, requires_grad=True)
    expected = reference.of_single(tensor, LENGTHS)
    sum(frames.amax(dim=0).square().sum() for frames in expected).backward()

    @jax.jit
    @functools.partial(jax.grad, argnums=1, has_aux=True)
    def gradient(variables, states):
        frames, _, maxima, changed = run(head, variables, states, train=True)
        return jnp.square(maxima).sum(), (frames, maxima, changed)

    variables = reference.variables()
    actual, (frames, maxima, changed) = gradient(variables, states)
    assert_equal_frames(kind, frames, maxima, [x.detach() for x in expected])
    scale = float(tensor.grad.abs().max())
    np.testing.assert_allclose(actual, tensor.grad, rtol=0, atol=1e-5 * scale)
    for name, (mean, var) in reference.batch_statistics().items():
        before, after = (tree["batch_stats"][name] for tree in (variables, changed))
        for key, value in (("mean", mean), ("var", var)):
            wanted = 0.9 * before[key] + 0.1 * value
            np.testing.assert_allclose(after[key], wanted, rtol=1e-5, atol=1e-5)


def test_a_masked_batch_norm_is_the_same_on_four_devices():
    rng = np.random.default_rng(0)
    x = np.float32(3 + rng.normal(size=(8, 5, 2, 3)))
    lengths = np.int32([5, 4, 5, 1, 0, 0, 2, 1])  # A device has no real position.
    is_real = np.arange(5) < lengths[:, None]
    variables = MaskedBatchNorm(jnp.float32, False, None).init(jax.random.key(0), x, is_real)

    def outputs(x, is_real, axis_name):
        def loss(x):
            norm = MaskedBatchNorm(jnp.float32, True, axis_name)
            y, changed = norm.apply(variables, x, is_real, mutable=["batch_stats"])
            y = jnp.where(is_real[..., None, None], y, 0)
            return jnp.square(y**2 + y).sum(), (y, changed["batch_stats"])

        gradient, (y, stats) = jax.grad(loss, has_aux=True)(x)
        return gradient, y, stats

    gradient, y, stats = jax.jit(lambda *args: outputs(*args, None))(x, is_real)
    real = x[is_real].reshape(-1, 3)
    np.testing.assert_allclose(stats["mean"], 0.1 * real.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * real.var(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        y[is_real].reshape(-1, 3),
        (real - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-5),
        atol=1e-4,
    )
    shares = (array.reshape(4, 2, *array.shape[1:]) for array in (x, is_real))
    on_devices = jax.pmap(lambda *args: outputs(*args, "devices"), axis_name="devices")
    gradients, ys, all_stats = on_devices(*shares)
    np.testing.assert_allclose(ys.reshape(y.shape), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients.reshape(x.shape), gradient, rtol=1e-4, atol=1e-4)
    for name, values in all_stats.items():
        np.testing.assert_allclose(values, np.tile(stats[name], (4, 1)), rtol=1e-5)


def test_a_masked_maximum_by_hand():
    frames = np.float32([[[-1, 5], [-3, 4], [9, 9]], [[7, 7], [7, 7], [7, 7]]])
    is_real = np.array([[True, True, False], [False] * 3])
    maxima = jax.jit(speech_heads.masked_maximum)(frames, is_real)
    np.testing.assert_array_equal(maxima, [[-1, 5], [0, 0]])


def test_published_sizes():
    states = jax.ShapeDtypeStruct((2, 100, 768), jnp.float32)
    options = {"train": False, "axis_name": None}
    variables = jax.eval_shape(
        functools.partial(speech_heads.DeepSpeechHead(768).init, **options),
        jax.random.key(0),
        states,
        np.int32([100, 99]),
    )
    shapes = jax.tree.map(lambda x: x.shape, variables["params"])
    assert shapes["conv_0"]["kernel"] == (11, 41, 1, 32)
    assert shapes["conv_1"]["kernel"] == (11, 21, 32, 32)
    assert shapes["lstm_0"]["forward"]["ii"]["kernel"] == (6144, 768)
    assert shapes["lstm_4"]["backward"]["hi"]["kernel"] == (768, 768)
    assert "lstm_norm_0" not in shapes
