"""Beam search: the most probable sequences of a network."""

from typing import Any

import jax
import jax.numpy as jnp

from akd_jax.training.generation import MINUS_INFINITY, Step, Writing, without_special
from akd_jax.training.maxima import top_k


def beam_search(
    step: Step,
    cache: Any,
    rows: int,
    writing: Writing,
    *,
    beams: int,
    length_penalty: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Searches for the K most probable sequences of each row.

    At each position, the K most probable continuations of the K sequences of a row are kept. A
    sequence that has ended stays as it is. At the end, the sequences are ordered by
    log p / length^alpha, where the length counts the words and the end token. The probabilities are
    those of all tokens, also of the start token and padding, which are never generated.

    Args:
      step: reads one more token of each sequence.
      cache: the cache of sequences without a token.
      rows: B.
      writing: length and special tokens.
      beams: K, at least 1.
      length_penalty: alpha; 0 compares sums of log-probabilities, and a larger one favours longer
        sequences.

    Returns:
      The sequences, int32 [B, K, T], the best one first; and log p / length^alpha of each [B, K].
      If there are fewer than K possible sequences, the scores of the others are below -1e20.

    Raises:
      ValueError: there is no beam.
    """
    if beams < 1:
        raise ValueError(f"beams: expected at least 1, got {beams}")
    shape = (rows, beams)

    def fold(x: jax.Array) -> jax.Array:
        return x.reshape(rows * beams, *x.shape[2:])

    def unfold(x: jax.Array) -> jax.Array:
        return x.reshape(rows, beams, *x.shape[1:])

    def chosen(x: jax.Array, parents: jax.Array) -> jax.Array:
        """Returns x [B, K, ...] at the parents [B, K]."""
        return unfold(fold(x)[fold(parents + first)])

    def extend(state: tuple) -> tuple:
        position, tokens, scores, ended, before = state
        logits, after = step(before, fold(tokens[:, :, position]), position)
        log_p, words = map(unfold, most_probable_words(logits.astype(jnp.float32), beams, writing))
        # A sequence that has ended continues with padding, at no cost.
        count = log_p.shape[-1]
        padding = jnp.where(jnp.arange(count) == 0, 0.0, MINUS_INFINITY)
        log_p = jnp.where(ended[..., None], padding, log_p)
        words = jnp.where(ended[..., None], writing.pad, words)
        totals = (scores[..., None] + log_p).reshape(rows, beams * count)
        scores, best = jax.lax.top_k(totals, beams)
        parents = best // count
        words = jnp.take_along_axis(words.reshape(rows, beams * count), best, axis=1)
        tokens = chosen(tokens, parents).at[:, :, position + 1].set(words)
        ended = chosen(ended, parents) | (words == writing.end)

        def of_parents(old: jax.Array, new: jax.Array) -> jax.Array:
            # The beams share arrays that a step returns unchanged, such as the source's states.
            return new if new is old else fold(chosen(unfold(new), parents))

        cache = jax.tree.map(of_parents, before, after)
        return position + 1, tokens, scores, ended, cache

    def is_unfinished(state: tuple) -> jax.Array:
        position, _, _, ended, _ = state
        return (position < writing.length - 1) & ~jnp.all(ended)

    first = beams * jnp.arange(rows)[:, None]  # The first sequence of each row.
    tokens = jnp.full((*shape, writing.length), writing.pad, jnp.int32)
    tokens = tokens.at[:, :, 0].set(writing.start)
    # All sequences of a row are equal at first, so that only one of them may continue.
    scores = jnp.where(jnp.arange(beams) == 0, 0.0, MINUS_INFINITY) * jnp.ones((rows, 1))
    cache = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), cache)
    start = (jnp.int32(0), tokens, scores, jnp.zeros(shape, bool), cache)
    _, tokens, scores, _, _ = jax.lax.while_loop(is_unfinished, extend, start)
    # The start token does not count.
    lengths = (tokens[:, :, 1:] != writing.pad).sum(axis=-1).astype(jnp.float32)
    scores = scores / jnp.maximum(lengths, 1) ** length_penalty
    order = jnp.argsort(-scores, axis=1, stable=True)
    return chosen(tokens, order), chosen(scores, order)


def most_probable_words(
    logits: jax.Array, count: int, writing: Writing
) -> tuple[jax.Array, jax.Array]:
    """Returns log p of the words that a sequence can continue with in a search, and the words.

    Args:
      logits: float32 [N, V].
      count: K, the number of words; of a smaller vocabulary, all.
      writing: the tokens that are never generated; they count in the sum of the probabilities.

    Returns:
      The largest log p, float32 [N, K], in descending order; and the words, int32 [N, K].
    """
    # The log-probabilities of all words would be an array as large as the logits.
    largest = logits.max(axis=-1, keepdims=True)
    normaliser = jnp.log(jnp.exp(logits - largest).sum(axis=-1, keepdims=True))
    allowed = without_special(logits, writing)
    values, words = top_k(allowed, min(count, logits.shape[-1]))
    return values - largest - normaliser, words
