"""Random spans of positions to mask, drawn on the device with static shapes."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.types import Array


@dataclasses.dataclass(frozen=True)
class SpanMask:
    """Spans of masked positions in sequences of different lengths.

    A sequence of T positions gets rate T / span spans, rounded to an integer. Their starts are
    drawn without replacement from `first` to T - span, so that no span reaches the padding. Spans
    may overlap, and then fewer positions are masked than the rate says. A sequence with fewer than
    first + span positions gets at most one span, from `first` to its end.

    The textual distillation of Kim et al. masks codes by SpanMask(0.5, 20) in the pretraining,
    which hides about 39 % of them, and by SpanMask(0.2, 5) in the augmentation. It sets hidden
    states to 0 by SpanMask(0.5, 10) over time and SpanMask(0.4, 5) over channels, both with
    rounding='random'. In its formulas, 0.5 T / 20 is written as 0.025 T.

    Source: Kim et al., "Two-stage Textual Knowledge Distillation for End-to-End Spoken Language
    Understanding", ICASSP 2021, https://arxiv.org/abs/2010.13105.

    Attributes:
      rate: the share of positions that would be masked if no spans overlapped, from 0 to 1.
      span: number of positions of a span, at least 1.
      rounding: 'up'; or 'random', to one of the two nearest integers, so that the expected number
        of spans is rate T / span.

    Raises:
      ValueError: the rate or the span is out of range, or the rounding is unknown.
    """

    rate: float
    span: int
    rounding: Literal["up", "random"] = "up"

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate: expected a number from 0 to 1, got {self.rate}")
        if self.span < 1:
            raise ValueError(f"span: expected at least 1 position, got {self.span}")
        if self.rounding not in ("up", "random"):
            raise ValueError(f"rounding: expected 'up' or 'random', got {self.rounding!r}")

    def draw(self, keys: jax.Array, lengths: Array, size: int, *, first: int = 1) -> jax.Array:
        """Returns which positions are masked, bool [B, size].

        The mask of a sequence depends only on its key and its length, and not on `size`.

        Args:
          keys: a PRNG key for each sequence, [B].
          lengths: T, the number of positions of each sequence, int [B]; the rest is padding.
          size: the length to which the sequences are padded.
          first: the first position that may be masked; 1 keeps the start of a sequence.
        """
        # Rounded, because 0.1 * 30 / 3 must not need a second span for its last digit.
        quotas = np.round(self.rate * np.arange(size + 1) / self.span, 9)
        if self.rounding == "up":
            quotas = np.ceil(quotas)
        most = min(math.ceil(quotas[-1]), size)
        positions = jnp.arange(size)

        def draw_one(key: jax.Array, length: jax.Array) -> jax.Array:
            position_key, rounding_key = jax.random.split(key)
            quota = jnp.asarray(quotas, jnp.float32)[length]
            if self.rounding == "random":
                quota += jax.random.uniform(rounding_key)
            span = jnp.minimum(self.span, length - first)
            is_start = (positions >= first) & (positions + span <= length) & (span > 0)
            count = jnp.minimum(jnp.floor(quota).astype(jnp.int32), is_start.sum())

            # One key for each position, so that a longer padding does not change the numbers.
            def score(position: jax.Array) -> jax.Array:
                return jax.random.uniform(jax.random.fold_in(position_key, position))

            scores = jnp.where(is_start, jax.vmap(score)(positions), -1)
            _, starts = jax.lax.top_k(scores, most)
            starts = jnp.where(jnp.arange(most) < count, starts, size)[:, None]
            return ((starts <= positions) & (positions < starts + span)).any(axis=0)

        return jax.vmap(draw_one)(keys, jnp.asarray(lengths))


@dataclasses.dataclass(frozen=True)
class SpanMasks:
    """Random spans of hidden states [B, T, D] that are set to 0, over time and over channels.

    It is a form of SpecAugment: Park et al., Interspeech 2019, https://arxiv.org/abs/1904.08779.

    Attributes:
      time: the spans of positions, in which all channels are 0; the first position is kept.
      channels: the spans of channels, which are 0 at all positions.
    """

    time: SpanMask = SpanMask(0.5, 10, "random")
    channels: SpanMask = SpanMask(0.4, 5, "random")

    def apply(self, keys: jax.Array, states: jax.Array, lengths: Array) -> jax.Array:
        """Returns states [B, T, D] with zeros in the spans.

        Args:
          keys: a PRNG key for each sequence, [B].
          states: the states, [B, T, D].
          lengths: the number of positions of each sequence, int [B].
        """
        rows, size, width = states.shape
        time_keys, channel_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        in_time = self.time.draw(time_keys, lengths, size)
        channels = jnp.full(rows, width, jnp.int32)
        in_channels = self.channels.draw(channel_keys, channels, width, first=0)
        return jnp.where(in_time[:, :, None] | in_channels[:, None], 0, states)
