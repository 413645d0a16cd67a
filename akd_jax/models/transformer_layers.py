"""The layers of Transformers that generate texts."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import pydantic

from akd_jax.host.settings import Fraction, NonNegative, Positive, PositiveInt

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "swish": jax.nn.silu,
}
STRICT = pydantic.ConfigDict(strict=True)
KeysAndValues = tuple[jax.Array, jax.Array]  # [B, heads, L, D / heads] each.


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class LayerConfig:
    """The sizes and settings of the layers.

    Attributes:
      width: D.
      heads: attention heads per layer; must divide the width.
      inner_width: width inside a feed-forward block.
      activation: the activation of the feed-forward blocks, a name in ACTIVATIONS.
      norm: 'post', a layer norm after each residual connection; or 'pre', one before each block and
        one after the last layer.
      dropout: rate after each block, and after the embeddings if there is no other rate for them.
      attention_dropout: rate of the attention weights.
      layer_norm_eps: epsilon of the layer norms.
      initializer_range: standard deviation of the initial embeddings. The initial kernels are
        Xavier's.

    Raises:
      pydantic.ValidationError: a value has the wrong type or is out of range.
    """

    width: PositiveInt
    heads: PositiveInt
    inner_width: PositiveInt
    activation: Literal["relu", "gelu", "gelu_new", "swish"] = "relu"
    norm: Literal["post", "pre"] = "post"
    dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.0
    layer_norm_eps: Positive = 1e-5
    initializer_range: NonNegative = 0.02

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"expected a width divisible by the {self.heads} heads, got {self.width}"
            )


class SelfAttentionLayer(nn.Module):
    """Self-attention and a feed-forward block."""

    config: LayerConfig
    dtype: Any

    def setup(self) -> None:
        """Creates the blocks with their layer norms."""
        self.attention = Attention(self.config, self.dtype)
        self.attention_norm = layer_norm(self.config, self.dtype)
        self.feed_forward = FeedForward(self.config, self.dtype)
        self.feed_forward_norm = layer_norm(self.config, self.dtype)

    def __call__(
        self, x: jax.Array, mask: jax.Array, *, train: bool
    ) -> tuple[jax.Array, KeysAndValues]:
        """Maps [B, L, D] to [B, L, D], and returns keys and values.

        Args:
          x: the states of the tokens.
          mask: which tokens each one may attend to, bool [B or 1, 1, L or 1, L].
          train: whether dropout is active.
        """
        seen: list[KeysAndValues] = []

        def attend(x: jax.Array) -> jax.Array:
            seen.append(self.attention.project(x))
            return self.attention(x, seen[0], mask, train=train)

        return self._feed(residual(self.config, x, attend, self.attention_norm), train), seen[0]

    def step(
        self, x: jax.Array, before: KeysAndValues, mask: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, KeysAndValues]:
        """Maps the states of one position [B, 1, D]; see `Attention.step`."""
        after: list[KeysAndValues] = []

        def attend(x: jax.Array) -> jax.Array:
            attended, extended = self.attention.step(x, before, mask, position)
            after.append(extended)
            return attended

        x = residual(self.config, x, attend, self.attention_norm)
        return self._feed(x, train=False), after[0]

    def _feed(self, x: jax.Array, train: bool) -> jax.Array:
        def feed(x: jax.Array) -> jax.Array:
            return self.feed_forward(x, train=train)

        return residual(self.config, x, feed, self.feed_forward_norm)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, and a feed-forward block."""

    config: LayerConfig
    dtype: Any

    def setup(self) -> None:
        """Creates the blocks with their layer norms."""
        self.attention = Attention(self.config, self.dtype)
        self.attention_norm = layer_norm(self.config, self.dtype)
        self.cross_attention = Attention(self.config, self.dtype)
        self.cross_attention_norm = layer_norm(self.config, self.dtype)
        self.feed_forward = FeedForward(self.config, self.dtype)
        self.feed_forward_norm = layer_norm(self.config, self.dtype)

    def project(self, memory: jax.Array) -> KeysAndValues:
        """Returns keys and values of the source's states."""
        return self.cross_attention.project(memory)

    def __call__(
        self,
        x: jax.Array,
        memory: KeysAndValues,
        real: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """Maps [B, T, D] to [B, T, D]; `real` [B, S] is False for padding of the source."""
        length = x.shape[1]
        causal = jnp.tril(jnp.ones((length, length), bool))[None, None]

        def attend(x: jax.Array) -> jax.Array:
            return self.attention(x, self.attention.project(x), causal, train=train)

        x = residual(self.config, x, attend, self.attention_norm)
        return self._rest(x, memory, real, train=train)

    def step(
        self,
        x: jax.Array,
        memory: KeysAndValues,
        real: jax.Array,
        written: KeysAndValues,
        position: jax.Array,
    ) -> tuple[jax.Array, KeysAndValues]:
        """Maps the states of one position [B, 1, D]; returns keys and values with this position."""
        after: list[KeysAndValues] = []
        seen = jnp.arange(written[0].shape[2]) <= position

        def attend(x: jax.Array) -> jax.Array:
            attended, extended = self.attention.step(x, written, seen[None, None, None], position)
            after.append(extended)
            return attended

        x = residual(self.config, x, attend, self.attention_norm)
        return self._rest(x, memory, real, train=False), after[0]

    def _rest(
        self, x: jax.Array, memory: KeysAndValues, real: jax.Array, *, train: bool
    ) -> jax.Array:
        """Applies the attention to the source and the feed-forward block."""

        def attend(x: jax.Array) -> jax.Array:
            return self.cross_attention(x, memory, real[:, None, None], train=train)

        def feed(x: jax.Array) -> jax.Array:
            return self.feed_forward(x, train=train)

        x = residual(self.config, x, attend, self.cross_attention_norm)
        return residual(self.config, x, feed, self.feed_forward_norm)


class Attention(nn.Module):
    """Attention with several heads, followed by a dense layer and dropout."""

    config: LayerConfig
    dtype: Any

    def setup(self) -> None:
        """Creates the four dense layers."""
        dense = functools.partial(dense_layer, self.config.width, self.dtype)
        self.query, self.key, self.value, self.output = dense(), dense(), dense(), dense()
        self.drop = nn.Dropout(self.config.dropout)
        self.drop_weights = nn.Dropout(self.config.attention_dropout)

    def project(self, x: jax.Array) -> KeysAndValues:
        """Returns keys and values [B, heads, L, D / heads] of states [B, L, D]."""
        return self._heads(self.key(x)), self._heads(self.value(x))

    def step(
        self, x: jax.Array, before: KeysAndValues, mask: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, KeysAndValues]:
        """Maps the states of one position [B, 1, D].

        Args:
          x: the states.
          before: the keys and values of the positions before, [B, heads, L, D / heads] each.
          mask: which of the L positions may be attended to, bool [B or 1, 1, 1, L].
          position: the position, int32 [].

        Returns:
          The states, and keys and values with this position.
        """
        pairs = zip(before, self.project(x), strict=True)
        key, value = (
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, axis=2)
            for old, new in pairs
        )
        return self(x, (key, value), mask, train=False), (key, value)

    def _heads(self, x: jax.Array) -> jax.Array:
        # Heads come first, because the products of the heads would transpose all positions of a
        # cache in each step otherwise.
        return x.reshape(*x.shape[:2], self.config.heads, -1).swapaxes(1, 2)

    def __call__(
        self,
        x: jax.Array,
        keys_and_values: KeysAndValues,
        mask: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """Maps states [B, T, D] to [B, T, D].

        Args:
          x: the states that attend.
          keys_and_values: of the states that are attended to, from `project`.
          mask: which of them may be attended to, bool [B or 1, 1, T or 1, L].
          train: whether dropout is active.
        """
        key, value = keys_and_values
        query = self._heads(self.query(x))
        scores = jnp.einsum("bhtd,bhld->bhtl", query, key, preferred_element_type=jnp.float32)
        scores = jnp.where(mask, scores / math.sqrt(query.shape[-1]), jnp.finfo(jnp.float32).min)
        weights = self.drop_weights(jax.nn.softmax(scores), deterministic=not train)
        attended = jnp.einsum("bhtl,bhld->bhtd", weights.astype(value.dtype), value)
        attended = attended.swapaxes(1, 2).reshape(x.shape)
        return self.drop(self.output(attended), deterministic=not train)


class FeedForward(nn.Module):
    """Two dense layers with an activation between them, followed by dropout."""

    config: LayerConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, L, D] to [B, L, D]."""
        config = self.config
        inner = dense_layer(config.inner_width, self.dtype, name="inner")(x)
        y = dense_layer(config.width, self.dtype, name="output")(
            ACTIVATIONS[config.activation](inner)
        )
        return nn.Dropout(config.dropout, deterministic=not train)(y)


def residual(
    config: LayerConfig,
    x: jax.Array,
    block: Callable[[jax.Array], jax.Array],
    norm: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Returns the states after a block with a residual connection and a layer norm."""
    if config.norm == "pre":
        return x + block(norm(x))
    return norm(x + block(x))


def dense_layer(width: int, dtype: Any, name: str | None = None) -> nn.Dense:
    """Returns a dense layer with the initial weights of the network."""
    return nn.Dense(width, dtype=dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)


def embedding(config: LayerConfig, rows: int, dtype: Any) -> nn.Embed:
    """Returns a table of embeddings with the initial weights of the network."""
    init = nn.initializers.normal(config.initializer_range)
    return nn.Embed(rows, config.width, dtype=dtype, embedding_init=init)


def layer_norm(config: LayerConfig, dtype: Any) -> nn.LayerNorm:
    """Returns a layer norm with the epsilon of the network."""
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype)
