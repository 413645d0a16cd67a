"""Encoder-decoder Transformers, such as Marian's: they map a text to another one.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762;
Junczys-Dowmunt et al., "Marian", ACL 2018, https://arxiv.org/abs/1804.00344.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from akd_jax.models.seq2seq.settings import Seq2SeqConfig
from akd_jax.models.transformer_layers import (
    DecoderLayer,
    SelfAttentionLayer,
    embedding,
    layer_norm,
)
from akd_jax.types import SOURCE, TARGET, Outputs, Tokens


class Cache(struct.PyTreeNode):
    """The state of incremental decoding; the first axis of all arrays is that of the texts.

    Attributes:
      memory: keys and values [B, heads, S, D / heads] of the source, for each layer.
      memory_mask: which positions of the source hold a token, bool [B, S].
      written: keys and values [B, heads, T, D / heads] of the target so far, for each layer.
    """

    memory: tuple[tuple[jax.Array, jax.Array], ...]
    memory_mask: jax.Array
    written: tuple[tuple[jax.Array, jax.Array], ...]


class Transformer(nn.Module):
    """An encoder-decoder Transformer.

    Attributes:
      config: sizes and settings.
      dtype: dtype of the computation; parameters, softmax and logits are float32.
    """

    config: Seq2SeqConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates embeddings, layers and the output layer."""
        config = self.config
        self.target_embedding = embedding(config, config.target_size, self.dtype)
        if config.tied != "all":
            self.source_embedding = embedding(config, config.source_size, self.dtype)
        if config.positions == "learned":
            self.source_positions = embedding(config, config.max_length, self.dtype)
            self.target_positions = embedding(config, config.max_length, self.dtype)
        self.encoder = [
            SelfAttentionLayer(config, self.dtype, name=f"encoder_{n}")
            for n in range(config.encoder_layers)
        ]
        self.decoder = [
            DecoderLayer(config, self.dtype, name=f"decoder_{n}")
            for n in range(config.decoder_layers)
        ]
        if config.norm == "pre":
            self.encoder_norm = layer_norm(config, self.dtype)
            self.decoder_norm = layer_norm(config, self.dtype)
        if config.tied == "none":
            self.output = nn.Dense(
                config.target_size,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=nn.initializers.xavier_uniform(),
            )
        if config.output_bias:
            self.output_bias = self.param(
                "output_bias", nn.initializers.zeros, (config.target_size,)
            )
        self.drop = nn.Dropout(config.dropout)

    def __call__(
        self, texts: Mapping[str, Tokens], *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps sources and the beginnings of targets to the logits of the next tokens.

        The features are 'encoder_0' ... 'encoder_N' [B, S, D] and 'hidden_0' ... 'hidden_M'
        [B, T, D], the embeddings and the outputs of the layers of encoder and decoder.

        Args:
          texts: the tokens [B, S] of the sources and the contexts [B, T], by SOURCE and TARGET. A
            context starts with the start token; the logits of position t are those of token t + 1.
          train: whether dropout is active.
          axis_name: ignored, because the network uses no statistics of the batch.

        Returns:
          The logits [B, T, V], and the mask of the contexts.

        Raises:
          ValueError: S or T is larger than `config.max_length`.
        """
        del axis_name
        source, target = texts[SOURCE], texts[TARGET]
        memory, features = self.encode(source, train=train)
        x = self._embed(TARGET, target.ids, jnp.arange(target.ids.shape[1]))
        x = self.drop(x, deterministic=not train)
        features["hidden_0"] = x
        for number, layer in enumerate(self.decoder, start=1):
            x = layer(x, layer.project(memory), source.mask, train=train)
            features[f"hidden_{number}"] = x
        return Outputs(self._logits(x), features, mask=target.mask)

    def encode(self, source: Tokens, *, train: bool = False) -> tuple[jax.Array, dict[str, Any]]:
        """Returns the states of the source [B, S, D], and the features of the encoder."""
        x = self._embed(SOURCE, source.ids, jnp.arange(source.ids.shape[1]))
        x = self.drop(x, deterministic=not train)
        features = {"encoder_0": x}
        for number, layer in enumerate(self.encoder, start=1):
            x, _ = layer(x, source.mask[:, None, None], train=train)
            features[f"encoder_{number}"] = x
        return (self.encoder_norm(x) if self.config.norm == "pre" else x), features

    def start(self, texts: Mapping[str, Tokens], length: int) -> Cache:
        """Encodes the sources, and returns the cache of decoders that have written nothing.

        Args:
          texts: the sources [B, S], by SOURCE; others are not read.
          length: T, the largest number of tokens of a target, with the start token.

        Raises:
          ValueError: S or T is larger than `config.max_length`.
        """
        config, source = self.config, texts[SOURCE]
        self._check_length(TARGET, length)
        memory, _ = self.encode(source)
        shape = (source.ids.shape[0], config.heads, length, config.width // config.heads)
        empty = jnp.zeros(shape, self.dtype)
        return Cache(
            memory=tuple(layer.project(memory) for layer in self.decoder),
            memory_mask=source.mask,
            written=((empty, empty),) * config.decoder_layers,
        )

    def step(self, cache: Cache, tokens: jax.Array, position: jax.Array) -> tuple[jax.Array, Cache]:
        """Reads one more token of each target.

        Args:
          cache: the cache of the tokens before.
          tokens: the tokens at this position, int32 [B].
          position: t, int32 [].

        Returns:
          The logits of the next tokens, float32 [B, V]; and the cache with these tokens.
        """
        x = self._embed(TARGET, tokens[:, None], position[None])
        written = []
        for layer, memory, before in zip(self.decoder, cache.memory, cache.written, strict=True):
            x, after = layer.step(x, memory, cache.memory_mask, before, position)
            written.append(after)
        return self._logits(x)[:, 0], cache.replace(written=tuple(written))

    def _embed(self, side: str, ids: Any, positions: jax.Array) -> jax.Array:
        """Returns the embeddings [B, L, D] of tokens [B, L] at positions [L]."""
        config = self.config
        self._check_length(side, ids.shape[1])
        of_target = side == TARGET or config.tied == "all"
        table = self.target_embedding if of_target else self.source_embedding
        x = table(jnp.asarray(ids))
        if config.scale_embeddings:
            x *= math.sqrt(config.width)
        if config.positions == "learned":
            rows = self.source_positions if side == SOURCE else self.target_positions
            return x + rows(positions)
        return x + jnp.asarray(sinusoids(config.max_length, config.width), x.dtype)[positions]

    def _check_length(self, side: str, length: int) -> None:
        """Raises ValueError if there are no positions for so many tokens."""
        if length > self.config.max_length:
            raise ValueError(
                f"{side}: expected at most {self.config.max_length} tokens, got {length}; cut the"
                " texts"
            )

    def _logits(self, x: jax.Array) -> jax.Array:
        """Returns the logits of the decoder's states, in float32."""
        config = self.config
        if config.norm == "pre":
            x = self.decoder_norm(x)
        if config.tied == "none":
            logits = self.output(x).astype(jnp.float32)
        else:
            table = self.target_embedding.embedding.astype(self.dtype)
            logits = jnp.einsum("btd,vd->btv", x, table, preferred_element_type=jnp.float32)
        return logits + self.output_bias if config.output_bias else logits


@functools.cache
def sinusoids(length: int, width: int) -> np.ndarray:
    """Returns Marian's positions [length, width]: all sines first, and then all cosines."""
    count = width // 2
    rates = 10000.0 ** (-2 * np.arange(width) / width)
    angles = np.arange(length)[:, None] * rates
    sines, cosines = np.sin(angles[:, : width - count]), np.cos(angles[:, :count])
    return np.concatenate([sines, cosines], axis=1).astype(np.float32)
