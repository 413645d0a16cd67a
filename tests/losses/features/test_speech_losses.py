"""Losses of the pretraining on speech: masked codes, letters, and sentence vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax import losses
from akd_jax.teachers.live import StoredTeacher
from akd_jax.types import Batch, Clock, Outputs, Tokens
from experiments.benchmarks.losses import speech
from experiments.benchmarks.losses.modules import initial_parameters, module_loss
from tests.support.loss_checks import check_finite, check_pytorch
from tests.support.steps import (
    Linear,
    arrays,
    assert_all_trained,
    assert_close,
    make_module_state,
    means,
    update_on_four,
    update_on_one,
)

MASKED = np.array([[0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], bool)


def normal(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def batch_of(masked=MASKED, weights=(1, 2, 3)):
    rng = np.random.default_rng(0)
    codes = np.int32(3 + rng.integers(0, 9, masked.shape))
    extra = {"codes": codes, "masked": masked}
    return Batch(None, np.zeros(len(masked), np.int32), np.float32(weights), extra=extra)


def terms_of(module, features, batch):
    """The only term of a loss that reads no teacher, and its parameters."""
    student, clock = Outputs(jnp.zeros((len(batch.weights), 0)), features), Clock.at()

    @jax.jit
    def run():
        return module.init_with_output(jax.random.key(0), student, {}, batch, clock)

    (term,), variables = run()[0].values(), run()[1]
    return term, variables["params"]


def test_masked_codes_equal_pytorch():
    arrays = speech.masked_positions(4, 8, 6)
    check_pytorch(module_loss(speech.MASKED_CODES), speech.masked_codes, arrays)


def test_predicted_positions_are_the_first_masked_ones():
    states, batch = normal(3, 6, 4), batch_of()
    term, params = terms_of(losses.MaskedCodes(9, layer="x"), {"x": states}, batch)
    # Three of six positions: the last masked one of the first row does not count.
    np.testing.assert_array_equal(term.weights, [[1, 1, 1], [2, 0, 0], [0, 0, 0]])
    rows, positions = [0, 0, 0, 1], [1, 2, 4, 5]
    chosen = np.zeros_like(MASKED)
    chosen[rows, positions] = True
    tensors = jax.tree.map(lambda x: torch.from_numpy(np.array(x)), params)
    inputs = [torch.from_numpy(x) for x in (states, batch.extra["codes"], chosen)]
    expected = speech.masked_codes(*inputs, tensors)
    values = term.values[[0, 0, 0, 1], [0, 1, 2, 0]]
    np.testing.assert_allclose(values.mean(), expected.item(), rtol=1e-5)
    term, _ = terms_of(losses.MaskedCodes(9, layer="x", share=1.0), {"x": states}, batch)
    np.testing.assert_array_equal(term.weights[:, 3:], [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_states_that_are_not_masked_get_no_gradient():
    states, batch = jnp.asarray(normal(3, 6, 4)), batch_of()
    module = losses.MaskedCodes(9, layer="x")
    _, params = terms_of(module, {"x": states}, batch)

    @jax.jit
    @jax.grad
    def gradient(states):
        student = Outputs(jnp.zeros((3, 0)), {"x": states})
        (term,) = module.apply({"params": params}, student, {}, batch, Clock.at()).values()
        return (term.values * term.weights).sum()

    moved = np.asarray(gradient(states)).any(axis=2)
    np.testing.assert_array_equal(moved, MASKED & (np.arange(6) < [[5], [6], [6]]))


def test_masked_codes_are_finite_at_extreme_states():
    arrays = speech.masked_positions(4, 8, 6)
    states = arrays["student_states"]
    for extreme in (1e6 * states, 0 * states, states.astype(jnp.bfloat16)):
        check_finite(module_loss(speech.MASKED_CODES), {**arrays, "student_states": extreme})


def test_masked_codes_without_masks_are_refused():
    states = normal(3, 6, 4)
    for extra, message in (
        ({}, r"in batch\.extra, got shapes \(3, 6, 4\), \(\) and \(\); set a `prepare`"),
        (batch_of(MASKED[:, :5]).extra, r"got shapes \(3, 6, 4\), \(3, 5\) and \(3, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            terms_of(
                losses.MaskedCodes(9, layer="x"), {"x": states}, batch_of().replace(extra=extra)
            )
    with pytest.raises(ValueError, match=r"share: expected a number in \(0, 1\], got 0"):
        terms_of(losses.MaskedCodes(9, layer="x", share=0.0), {"x": states}, batch_of())


def letters_of(ids, lengths):
    ids = np.int32(ids)
    return Tokens(ids, np.zeros_like(ids), np.int32(lengths))


def test_ctc_is_that_of_a_dense_layer_and_leaves_out_what_cannot_be_aligned():
    frames, mask = normal(3, 5, 4), np.arange(5) < np.c_[[5, 2, 4]]
    # What a row of letters holds behind its length does not matter.
    letters = letters_of([[1, 2, 2], [1, 2, 1], [3, 4, 4]], [3, 3, 1])
    batch = Batch({"letters": letters}, np.zeros(3, np.int32), np.float32([1, 2, 3]))
    features = {"frames": frames, "frame_mask": mask}
    term, params = terms_of(losses.CTC(5), features, batch)
    np.testing.assert_array_equal(term.weights, [1, 0, 3])
    logits = frames @ params["output"]["kernel"] + params["output"]["bias"]
    labels = np.int32([[1, 2, 2], [1, 2, 1], [3, 0, 0]])
    np.testing.assert_allclose(term.values, losses.ctc(logits, labels, mask=mask), rtol=1e-5)


@pytest.mark.parametrize("width", [6, 4])
def test_sentence_vectors_are_projected_only_if_their_widths_differ(width):
    arrays = {"student_sentence": normal(5, 6), "teacher_sentence": normal(5, width, seed=1)}
    module = losses.Hint("sentence", always_project=False)
    params = initial_parameters(module, arrays)
    projected = arrays["student_sentence"]
    if width == 6:
        assert params == {}
        assert set(initial_parameters(losses.Hint("sentence"), arrays)) == {"Dense_0"}
    else:
        projected = projected @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    values = module_loss(module)(student_parameters=params, **arrays)
    expected = np.square(projected - arrays["teacher_sentence"]).mean(axis=1)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


class Student(Linear):
    """Frames, and logits."""

    def __call__(self, inputs, *, train=False, axis_name=None):
        outputs = super().__call__(inputs["frames"], train=train, axis_name=axis_name)
        frames, mask = outputs.logits, inputs["mask"]
        features = {
            "states": frames,
            "frames": frames,
            "frame_mask": mask,
            "sentence": frames[:, 0],
        }
        return Outputs(frames[:, 0], features)


def test_an_update_is_the_same_on_four_devices():
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 7, 8)
    masked = (rng.random((8, 6)) < 0.5) & (np.arange(6) < lengths[:, None])
    masked[2:4] = False  # A device has no masked position.
    inputs = {
        "frames": normal(8, 6, 5),
        "mask": np.arange(6) < lengths[:, None],
        "letters": letters_of(rng.integers(1, 5, (8, 3)), rng.integers(1, 4, 8)),
    }
    weights = np.float32([1, 0.5, 2, 1, 1, 0, 0, 0])  # The last device has only padding.
    stored = {"teacher": Outputs(normal(8, 3), {"sentence": normal(8, 4, seed=1)})}
    batch = Batch(inputs, np.zeros(8, np.int32), weights, stored=stored)
    batch = batch.replace(extra=batch_of(masked, weights).extra)
    teachers = {"teacher": StoredTeacher("teacher")}
    loss = losses.compose(
        codes=(1.0, losses.MaskedCodes(9, layer="states")),
        letters=(1.0, losses.CTC(5)),
        sentence=(1.0, losses.Hint("sentence", always_project=False)),
    )
    state = make_module_state(Student(), loss, teachers, batch)
    one, metrics = update_on_one(state, teachers, [batch])
    four, on_four = update_on_four(state, teachers, [batch])
    assert_close(arrays(four), arrays(one), 1e-5)
    assert_close(means(on_four[0]), means(metrics[0]), 1e-5)
    assert {"codes", "letters", "sentence"} < metrics[0].keys()
    assert_all_trained(state, one)
