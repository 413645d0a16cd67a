"""Recurrent encoder-decoders with attention: small and fast students of Transformers.

Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
https://arxiv.org/abs/1409.0473; Luong et al., "Effective Approaches to Attention-based Neural
Machine Translation", EMNLP 2015, https://arxiv.org/abs/1508.04025.
"""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import pydantic
from flax import struct

from akd_jax.host.settings import Fraction, PositiveInt
from akd_jax.models.recurrence import State
from akd_jax.models.recurrent import Cell, Recurrent
from akd_jax.types import SOURCE, TARGET, Outputs, Tokens


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True))
class RecurrentConfig:
    """The sizes and settings of a recurrent encoder-decoder.

    Attributes:
      source_size: number of tokens of the source vocabulary.
      target_size: V, number of tokens of the target vocabulary.
      embedding: E, the width of an embedding.
      width: H, the width of the decoder's state; that of each direction of the encoder is H / 2.
      layers: number of layers of the encoder, and of the decoder.
      cell: 'gru' or 'lstm'.
      tied: 'all', one table for both embeddings and the output layer, which needs one vocabulary;
        or 'target', one for the target's embeddings and the output layer.
      dropout: rate of the embeddings, between the layers, and before the output layer.

    Raises:
      pydantic.ValidationError: a value has the wrong type or is out of range.
    """

    source_size: PositiveInt
    target_size: PositiveInt
    embedding: PositiveInt
    width: PositiveInt
    layers: PositiveInt = 2
    cell: Literal["gru", "lstm"] = "gru"
    tied: Literal["all", "target"] = "target"
    dropout: Fraction = 0.1

    def __post_init__(self) -> None:
        if self.width % 2:
            raise ValueError(
                f"expected an even width, for two directions of the encoder, got {self.width}"
            )
        if self.tied == "all" and self.source_size != self.target_size:
            raise ValueError(
                "expected one vocabulary for tied embeddings, got"
                f" {self.source_size} and {self.target_size} tokens"
            )


class RecurrentCache(struct.PyTreeNode):
    """The state of incremental decoding; the first axis of all arrays is that of the texts.

    Attributes:
      memory: the states of the source, [B, S, H].
      memory_mask: which positions of the source hold a token, bool [B, S].
      states: the state of each layer of the decoder, arrays [B, H].
    """

    memory: jax.Array
    memory_mask: jax.Array
    states: tuple[State, ...]


class RecurrentSeq2Seq(nn.Module):
    """A bidirectional encoder, and a decoder with dot-product attention.

    The layers of the decoder start from the last states of the layers of the encoder, both
    directions side by side. With a state s_t of the decoder's last layer and the encoder's states
    m_j, the logits of the next token are

        E tanh(W [s_t; c_t] + b) + b_out,    c_t = sum_j a_tj m_j,    a_t = softmax_j(s_t . m_j)

    where E are the embeddings of the target.

    Attributes:
      config: sizes and settings.
      dtype: dtype of embeddings, attention and output layer; the recurrent layers, softmax and
        logits are float32.
    """

    config: RecurrentConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates embeddings, layers and the output layer."""
        config = self.config
        cell: Cell = config.cell
        init = nn.initializers.normal(config.embedding**-0.5)

        def table(rows: int) -> nn.Embed:
            return nn.Embed(rows, config.embedding, dtype=self.dtype, embedding_init=init)

        self.target_embedding = table(config.target_size)
        if config.tied != "all":
            self.source_embedding = table(config.source_size)
        self.encoder = [
            Recurrent(config.width // 2, cell, bidirectional=True, name=f"encoder_{n}")
            for n in range(config.layers)
        ]
        self.decoder = [
            Recurrent(config.width, cell, name=f"decoder_{n}") for n in range(config.layers)
        ]
        self.projection = nn.Dense(config.embedding, dtype=self.dtype)
        self.output_bias = self.param("output_bias", nn.initializers.zeros, (config.target_size,))
        self.drop = nn.Dropout(config.dropout)

    def __call__(
        self, texts: Mapping[str, Tokens], *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps sources and the beginnings of targets to the logits of the next tokens.

        The features are 'memory' [B, S, H] and 'states' [B, T, H], the states of encoder and
        decoder.

        Args:
          texts: the tokens [B, S] of the sources and the contexts [B, T], by SOURCE and TARGET. A
            context starts with the start token; the logits of position t are those of token t + 1.
          train: whether dropout is active.
          axis_name: ignored, because the network uses no statistics of the batch.

        Returns:
          The logits [B, T, V], and the mask of the contexts.
        """
        del axis_name
        source, target = texts[SOURCE], texts[TARGET]
        cache = self._encode(source, train=train)
        x, _ = self._decode(target.ids, target.lengths, cache.states, train=train)
        logits = self._logits(x, cache, train=train)
        return Outputs(logits, {"memory": cache.memory, "states": x}, mask=target.mask)

    def start(self, texts: Mapping[str, Tokens], length: int) -> RecurrentCache:
        """Encodes the sources, and returns the cache of decoders that have written nothing.

        Args:
          texts: the sources [B, S], by SOURCE; others are not read.
          length: not used; the cache does not grow with the target.
        """
        del length
        return self._encode(texts[SOURCE], train=False)

    def step(
        self, cache: RecurrentCache, tokens: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, RecurrentCache]:
        """Reads one more token of each target.

        Args:
          cache: the cache of the tokens before.
          tokens: the tokens at this position, int32 [B].
          position: not used; the state knows it.

        Returns:
          The logits of the next tokens, float32 [B, V]; and the cache with these tokens.
        """
        del position
        one = jnp.ones(tokens.shape[0], jnp.int32)
        x, states = self._decode(tokens[:, None], one, cache.states, train=False)
        return self._logits(x, cache, train=False)[:, 0], cache.replace(states=states)

    def _encode(self, source: Tokens, *, train: bool) -> RecurrentCache:
        """Returns the states of the sources, and the first states of the decoder."""
        shared = self.config.tied == "all"
        table = self.target_embedding if shared else self.source_embedding
        x, states = table(jnp.asarray(source.ids)), []
        for layer in self.encoder:
            x, last = layer.run(self.drop(x, deterministic=not train), source.lengths)
            # An array of the state in one direction belongs next to that in the other.
            parts = zip(*last, strict=True)
            states.append(tuple(jnp.concatenate(part, axis=-1) for part in parts))
        return RecurrentCache(x, source.mask, tuple(states))

    def _decode(
        self, ids: Any, lengths: Any, states: tuple[State, ...], *, train: bool
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Returns the decoder's states [B, T, H] at tokens [B, T], and the last ones."""
        x, after = self.target_embedding(jnp.asarray(ids)), []
        for layer, first in zip(self.decoder, states, strict=True):
            x, (last,) = layer.run(self.drop(x, deterministic=not train), lengths, [first])
            after.append(last)
        return x, tuple(after)

    def _logits(self, x: jax.Array, cache: RecurrentCache, *, train: bool) -> jax.Array:
        """Returns the logits [B, T, V] of the decoder's states [B, T, H]."""
        x, memory = x.astype(self.dtype), cache.memory.astype(self.dtype)
        scores = jnp.einsum("bth,bsh->bts", x, memory, preferred_element_type=jnp.float32)
        scores = jnp.where(cache.memory_mask[:, None], scores, jnp.finfo(jnp.float32).min)
        attention = jax.nn.softmax(scores).astype(self.dtype)
        context = jnp.einsum("bts,bsh->bth", attention, memory)
        hidden = jnp.tanh(self.projection(jnp.concatenate([x, context], axis=-1)))
        hidden = self.drop(hidden, deterministic=not train)
        table = self.target_embedding.embedding.astype(self.dtype)
        logits = jnp.einsum("bte,ve->btv", hidden, table, preferred_element_type=jnp.float32)
        return logits + self.output_bias
