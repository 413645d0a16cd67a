"""Masks of spans against NumPy, their published coverage, and what they must not depend on."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akd_jax.models.spans import SpanMask, SpanMasks

LENGTHS = np.int32([0, 1, 2, 10, 20, 21, 30, 60])


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def compiled_draw(spans, keys, lengths, size, first):
    return spans.draw(keys, lengths, size, first=first)


def draw(spans, keys, lengths, size, first=1):
    return np.asarray(compiled_draw(spans, keys, lengths, size, first))


def numpy_mask(spans, key, length, size, first):
    """The mask of one sequence, from the same random numbers of each position."""
    position_key, rounding_key = jax.random.split(key)
    score = [float(jax.random.uniform(jax.random.fold_in(position_key, t))) for t in range(size)]
    quota = round(spans.rate * length / spans.span, 9)
    if spans.rounding == "random":
        count = math.floor(quota + float(jax.random.uniform(rounding_key)))
    else:
        count = math.ceil(quota)
    span = min(spans.span, length - first)
    starts = [t for t in range(first, length - span + 1) if span > 0]
    starts = sorted(starts, key=lambda t: -score[t])[:count]
    mask = np.zeros(size, bool)
    for start in starts:
        mask[start : start + span] = True
    return mask


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "spans", [SpanMask(0.5, 20), SpanMask(0.2, 5), SpanMask(0.5, 10, "random"), SpanMask(1, 1)]
)
def test_masks_equal_numpy(spans, first):
    keys = keys_of(len(LENGTHS))
    masks = draw(spans, keys, LENGTHS, 60, first)
    for mask, key, length in zip(masks, keys, LENGTHS, strict=True):
        np.testing.assert_array_equal(mask, numpy_mask(spans, key, length, 60, first))


@settings(max_examples=12)
@given(
    rate=st.floats(0, 1),
    span=st.sampled_from([1, 4, 20]),
    first=st.integers(0, 2),
    lengths=st.lists(st.integers(0, 40), min_size=6, max_size=6),
    seed=st.integers(0, 2**31 - 1),
)
def test_spans_lie_between_the_first_position_and_the_padding(rate, span, first, lengths, seed):
    spans = SpanMask(rate, span)
    # Not compiled: each rate would be another program.
    masks = np.asarray(spans.draw(keys_of(6, seed), np.int32(lengths), 40, first=first))
    for mask, length in zip(masks, lengths, strict=True):
        assert not mask[:first].any()
        assert not mask[length:].any()
        allowed = max(length - first, 0)
        count = math.ceil(round(rate * length / span, 9))
        assert mask.sum() <= min(count * span, allowed)
        if count and allowed:
            assert mask.sum() >= min(span, allowed)  # Never an error, and never no span.
        # Each run of masked positions holds a whole span.
        edges = np.flatnonzero(np.diff(np.pad(mask, 1).astype(int)))
        assert (edges[1::2] - edges[::2] >= min(span, allowed)).all()


def test_a_mask_depends_on_its_key_and_length_only():
    spans, keys = SpanMask(0.5, 10, "random"), keys_of(len(LENGTHS))
    masks = draw(spans, keys, LENGTHS, 60)
    longer = draw(spans, keys, LENGTHS, 90)
    np.testing.assert_array_equal(longer[:, :60], masks)
    order = np.int32([7, 2, 5, 4])
    np.testing.assert_array_equal(draw(spans, keys[order], LENGTHS[order], 60), masks[order])
    on_devices = jax.pmap(lambda key, length: spans.draw(key, length, 60))
    shares = on_devices(keys.reshape(4, 2), LENGTHS.reshape(4, 2))
    np.testing.assert_array_equal(shares.reshape(8, 60), masks)
    assert not np.array_equal(draw(spans, keys_of(8, seed=1), LENGTHS, 60), masks)


@pytest.mark.parametrize(
    ("spans", "first", "share"),
    [
        (SpanMask(0.5, 20), 1, 0.39),  # The codes of the pretraining.
        (SpanMask(0.2, 5), 1, 0.18),  # The codes of the augmentation.
        (SpanMask(0.5, 10, "random"), 1, 0.39),  # Hidden states over time.
        (SpanMask(0.4, 5, "random"), 0, 0.33),  # And over channels.
    ],
)
def test_published_masks_cover_the_published_shares(spans, first, share):
    masks = draw(spans, keys_of(40), np.full(40, 4000, np.int32), 4000, first)
    # A position stays if none of the `span` starts before it is drawn.
    assert abs(masks.mean() - (1 - (1 - spans.rate / spans.span) ** spans.span)) < 0.01
    assert abs(masks.mean() - share) < 0.02


def test_spans_are_drawn_without_replacement_and_their_number_is_rounded():
    # Spans of one position: their number is that of the masked positions.
    keys, lengths = keys_of(400), np.full(400, 7, np.int32)
    assert set(draw(SpanMask(0.5, 1), keys, lengths, 7).sum(axis=1)) == {4}
    counts = draw(SpanMask(0.5, 1, "random"), keys, lengths, 7).sum(axis=1)
    assert set(counts) == {3, 4}
    assert abs(counts.mean() - 3.5) < 0.1  # Four standard errors.
    # 0.1 * 30 / 3 is 1 and a little more in floating point.
    assert set(draw(SpanMask(0.1, 3), keys, np.full(400, 30, np.int32), 30).sum(axis=1)) == {3}
    assert not draw(SpanMask(0, 5), keys, lengths, 7).any()
    assert draw(SpanMask(1, 1), keys, lengths, 7)[:, 1:].all()


def test_states_are_0_in_spans_of_time_and_channels():
    keys, lengths = keys_of(8), LENGTHS
    states = np.float32(1 + np.random.default_rng(0).random((8, 60, 64)))
    masked = np.asarray(jax.jit(SpanMasks().apply)(keys, states, lengths))
    zeros = masked == 0
    np.testing.assert_array_equal(masked[~zeros], states[~zeros])
    in_time, in_channels = zeros.all(axis=2), zeros.all(axis=1)
    np.testing.assert_array_equal(zeros, in_time[:, :, None] | in_channels[:, None])
    assert not in_time[:, 0].any()
    assert not (in_time & (np.arange(60) >= lengths[:, None])).any()
    assert in_time[LENGTHS >= 20].any(axis=1).all()
    assert in_channels.any(axis=1).all()
    unmasked = SpanMasks(SpanMask(0, 1), SpanMask(0, 1)).apply(keys, jnp.asarray(states), lengths)
    np.testing.assert_array_equal(unmasked, states)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 5), "rate: expected a number from 0 to 1, got -0.1"),
        ((1.5, 5), "rate: expected a number from 0 to 1, got 1.5"),
        ((0.5, 0), "span: expected at least 1 position, got 0"),
        ((0.5, 5, "down"), "rounding: expected 'up' or 'random', got 'down'"),
    ],
)
def test_options_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpanMask(*arguments)
