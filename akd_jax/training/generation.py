"""Generation of token sequences by a network: greedy decoding and sampling.

The functions know a network only through a step, which reads one more token of each sequence:

    step(cache, tokens [B], position []) -> (logits [B, V], cache)

The arrays of a cache have the sequences as their first axis. A sequence [T] is a start token,
words, the end token, and padding. All loops have static shapes, and end when all sequences have
ended.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.models.network import Model
from akd_jax.training import maxima
from akd_jax.types import Array, TargetVocabulary

MINUS_INFINITY = -1e30  # Finite, so that no difference of two of them is NaN.


class Step(Protocol):
    """Reads one more token of each sequence."""

    def __call__(
        self, cache: Any, tokens: jax.Array, position: jax.Array, /
    ) -> tuple[jax.Array, Any]:
        """Returns the logits of the next tokens [B, V], and the cache with these tokens.

        Args:
          cache: what the network keeps of the tokens before.
          tokens: the tokens at this position, int32 [B].
          position: t, int32 [].
        """


@dataclasses.dataclass(frozen=True)
class Writing:
    """The length and the special tokens of generated sequences.

    Attributes:
      length: T, the number of tokens of a generated sequence, with the start token. One without
        the end token is cut at this length.
      start: the id of the first token.
      end: the id of the token that ends a sequence.
      pad: the id of padding. It is never generated before the end, and neither is `start`.
      others: the ids of further tokens that are never generated.

    Raises:
      ValueError: the length is below 2, or `end` is also the start token or padding.
    """

    length: int
    start: int
    end: int
    pad: int
    others: tuple[int, ...] = ()

    @classmethod
    def of(cls, target: TargetVocabulary, length: int) -> "Writing":
        """Returns the special tokens of a vocabulary with a length."""
        return cls(length, target.start, target.end, target.pad, target.task_tokens)

    @property
    def special(self) -> tuple[int, ...]:
        """The ids that are never generated."""
        return (self.start, self.pad, *self.others)

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(
                f"length: expected at least 2 tokens, the start and a word, got {self.length}"
            )
        if self.end in (self.start, self.pad):
            raise ValueError(
                f"end: expected another token than the start {self.start} and the padding"
                f" {self.pad}, got {self.end}"
            )


def generate(
    model: Model, inputs: Any, length: int, decode: Callable[[Step, Any, int], Any]
) -> Any:
    """Generates a text for each source with a model.

    Args:
      model: a model of a network that generates texts: its module has the methods `start` and
        `step` of `akd_jax.models.seq2seq.Transformer`, or of `akd_jax.models.decoder.Decoder`.
      inputs: raw inputs of the network.
      length: T, the largest number of tokens of a text, with the start token.
      decode: generates sequences from a step, a cache and the number of rows, such as
        `functools.partial(greedy, writing=writing)`.

    Returns:
      What `decode` returns.
    """

    def method(module: nn.Module, texts: Any) -> Any:
        # A module that is not bound can be called in loops.
        module, variables = module.unbind()

        def step(cache: Any, tokens: jax.Array, position: jax.Array) -> tuple[jax.Array, Any]:
            return module.apply(variables, cache, tokens, position, method="step")

        cache = module.apply(variables, texts, length, method="start")
        return decode(step, cache, len(jax.tree.leaves(texts)[0]))

    return model.apply_fn(model.variables, inputs, method=method)


def greedy(
    step: Step,
    cache: Any,
    rows: int,
    writing: Writing,
    prefix: tuple[Array, Array] | None = None,
) -> jax.Array:
    """Generates the most probable token at each position.

    Args:
      step: reads one more token of each sequence.
      cache: the cache of sequences without a token.
      rows: B.
      writing: length and special tokens.
      prefix: sequences [B, T], and the number of tokens of each that are kept, the start token
        included, [B]; None to generate all tokens.

    Returns:
      The sequences, int32 [B, T].
    """

    def choose(logits: jax.Array, position: jax.Array) -> jax.Array:
        best = maxima.argmax(logits)
        if prefix is None:
            return best
        tokens, lengths = map(jnp.asarray, prefix)
        return jnp.where(position + 1 < lengths, tokens[:, position + 1], best)

    return _write(step, cache, rows, writing, choose)


def sample(
    step: Step,
    cache: Any,
    keys: jax.Array,
    writing: Writing,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> jax.Array:
    """Draws each token from softmax(logits / temperature), or from its most probable part.

    What is drawn for a sequence depends on its key, and neither on the other sequences nor on the
    number of devices.

    Args:
      step: reads one more token of each sequence.
      cache: the cache of sequences without a token.
      keys: a PRNG key for each sequence, [B].
      writing: length and special tokens.
      temperature: the temperature of the softmax, greater than 0.
      top_k: the number of the most probable tokens to draw from; 0 for all.
      top_p: the probability of the smallest set of the most probable tokens to draw from (nucleus
        sampling, Holtzman et al., 2020, https://arxiv.org/abs/1904.09751), above 0 and at most 1.

    Returns:
      The sequences, int32 [B, T].

    Raises:
      ValueError: an option is out of its range.
    """
    if temperature <= 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(
            "sample: expected temperature > 0, top_k >= 0 and 0 < top_p <= 1, got"
            f" {temperature}, {top_k} and {top_p}"
        )

    def choose(logits: jax.Array, position: jax.Array) -> jax.Array:
        drawn_from = _most_probable(logits / temperature, top_k, top_p)
        draw = jax.vmap(lambda key, z: jax.random.categorical(jax.random.fold_in(key, position), z))
        return draw(keys, drawn_from)

    return _write(step, cache, len(keys), writing, choose)


def written_lengths(tokens: Array, writing: Writing) -> Array:
    """Returns the number of words of each sequence [..., T], without start, end and padding."""
    words = tokens[..., 1:]
    return ((words != writing.pad) & (words != writing.end)).sum(axis=-1)


def _write(
    step: Step,
    cache: Any,
    rows: int,
    writing: Writing,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Generates token after token; `choose` maps logits [B, V] and a position to tokens."""

    def extend(state: tuple) -> tuple:
        position, tokens, ended, cache = state
        logits, cache = step(cache, tokens[:, position], position)
        words = choose(without_special(logits.astype(jnp.float32), writing), position)
        words = jnp.where(ended, writing.pad, words).astype(jnp.int32)
        tokens = tokens.at[:, position + 1].set(words)
        return position + 1, tokens, ended | (words == writing.end), cache

    def is_unfinished(state: tuple) -> jax.Array:
        position, _, ended, _ = state
        return (position < writing.length - 1) & ~jnp.all(ended)

    tokens = jnp.full((rows, writing.length), writing.pad, jnp.int32).at[:, 0].set(writing.start)
    start = (jnp.int32(0), tokens, jnp.zeros(rows, bool), cache)
    _, tokens, _, _ = jax.lax.while_loop(is_unfinished, extend, start)
    return tokens


def without_special(logits: jax.Array, special: Writing | TargetVocabulary) -> jax.Array:
    """Returns logits [..., V] that exclude the tokens that are never generated."""
    return logits.at[..., jnp.array(special.special)].set(MINUS_INFINITY)


def _most_probable(logits: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """Returns logits [B, V] that exclude all tokens but the most probable ones."""
    if top_k:
        smallest = maxima.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits < smallest, MINUS_INFINITY, logits)
    if top_p < 1:
        ordered = -jnp.sort(-logits, axis=-1)
        p = jax.nn.softmax(ordered)
        # The first token that reaches top_p belongs to the set.
        kept = jnp.cumsum(p, axis=-1) - p < top_p
        smallest = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < smallest, MINUS_INFINITY, logits)
    return logits
