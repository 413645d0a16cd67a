"""Decoder-only Transformers, such as GPT-2: they continue a text.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

A row is a prompt and its completion. The completion begins with a start token, so that the logits
at a position of the completion are those of its next token.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pydantic
from flax import struct

from akd_jax.host.errors import InputError
from akd_jax.host.settings import Fraction, PositiveInt, problem_message
from akd_jax.models.transformer_layers import (
    STRICT,
    KeysAndValues,
    LayerConfig,
    SelfAttentionLayer,
    embedding,
    layer_norm,
)
from akd_jax.types import COMPLETION, PROMPT, Outputs, Tokens

MAX_LENGTH = 512  # Positions of networks without a Hugging Face folder.
_HEAD_SIZE = 64  # Channels of an attention head.
_NUMBER = "([1-9][0-9]{0,6})"
_FORM = re.compile(rf"{_NUMBER}x{_NUMBER}(?:,heads={_NUMBER})?")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderConfig(LayerConfig):
    """The sizes and settings of a decoder, besides those of its layers.

    Attributes:
      vocabulary: V, the number of tokens.
      layers: number of layers.
      max_length: number of positions that have an embedding.
      embedding_dropout: rate after the embeddings.
    """

    vocabulary: PositiveInt
    layers: PositiveInt
    max_length: PositiveInt = MAX_LENGTH
    embedding_dropout: Fraction = 0.1


class Cache(struct.PyTreeNode):
    """The state of incremental decoding; the first axis of all arrays is that of the texts.

    Attributes:
      seen: keys and values [B, heads, P + T, D / heads] of each layer: those of the prompt, and of
        the completion so far.
      prompt_mask: which of the P positions of the prompt hold a token, bool [B, P].
    """

    seen: tuple[KeysAndValues, ...]
    prompt_mask: jax.Array


class Decoder(nn.Module):
    """A causal Transformer with learned positions; its embeddings are also the output layer.

    Attributes:
      config: sizes and settings.
      dtype: dtype of the computation; parameters, softmax and logits are float32.
    """

    config: DecoderConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates embeddings, layers and the last layer norm."""
        config = self.config
        self.tokens = embedding(config, config.vocabulary, self.dtype)
        self.positions = embedding(config, config.max_length, self.dtype)
        self.layers = [
            SelfAttentionLayer(config, self.dtype, name=f"layer_{n}") for n in range(config.layers)
        ]
        if config.norm == "pre":
            self.norm = layer_norm(config, self.dtype)
        self.drop = nn.Dropout(config.embedding_dropout)

    def __call__(
        self, texts: Tokens, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps texts [B, L] to the logits of their next tokens.

        The features are 'hidden_0' ... 'hidden_N' [B, L, D], the embeddings and the outputs of the
        layers.

        Args:
          texts: prompts and completions; the token types are PROMPT and COMPLETION.
          train: whether dropout is active.
          axis_name: ignored, because the network uses no statistics of the batch.

        Returns:
          The logits [B, L, V], and the mask of the completions.

        Raises:
          ValueError: L is larger than `config.max_length`.
        """
        del axis_name
        length = texts.ids.shape[1]
        if length > self.config.max_length:
            raise ValueError(
                f"texts: expected at most {self.config.max_length} tokens, got {length}; cut them"
            )
        x, features, _ = self._read(texts.ids, train=train)
        completion = texts.mask & (jnp.asarray(texts.token_type_ids) == COMPLETION)
        return Outputs(self._logits(x), features, mask=completion)

    def start(self, texts: Tokens, length: int) -> Cache:
        """Reads the prompts, and returns the cache of decoders that have written nothing.

        Args:
          texts: texts [B, L], whose completions are not read.
          length: T, the largest number of tokens of a completion, with the start token.
        """
        prompt = texts.mask & (jnp.asarray(texts.token_type_ids) == PROMPT)
        _, _, seen = self._read(texts.ids, train=False)
        room = ((0, 0), (0, 0), (0, length), (0, 0))
        return Cache(
            tuple((jnp.pad(key, room), jnp.pad(value, room)) for key, value in seen), prompt
        )

    def step(self, cache: Cache, tokens: jax.Array, position: jax.Array) -> tuple[jax.Array, Cache]:
        """Reads one more token of each completion.

        A completion that goes beyond `config.max_length` positions has the last one for all its
        further tokens.

        Args:
          cache: the cache of the tokens before.
          tokens: the tokens at this position, int32 [B].
          position: t, the position in the completion, int32 [].

        Returns:
          The logits of the next tokens, float32 [B, V]; and the cache with these tokens.
        """
        prompt = cache.prompt_mask
        written = jnp.arange(cache.seen[0][0].shape[2] - prompt.shape[1]) <= position
        written = jnp.broadcast_to(written, (prompt.shape[0], written.size))
        mask = jnp.concatenate([prompt, written], axis=1)[:, None, None]
        last = self.config.max_length - 1
        of_row = jnp.minimum(prompt.sum(axis=1, dtype=jnp.int32) + position, last)
        x = self.tokens(tokens) + self.positions(of_row)
        x, seen = x[:, None], []
        for layer, before in zip(self.layers, cache.seen, strict=True):
            x, after = layer.step(x, before, mask, prompt.shape[1] + position)
            seen.append(after)
        return self._logits(x)[:, 0], cache.replace(seen=tuple(seen))

    def _read(
        self, ids: Any, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array], list[KeysAndValues]]:
        """Returns the states [B, L, D] of tokens [B, L], the features, and keys and values."""
        length = ids.shape[1]
        x = self.tokens(jnp.asarray(ids)) + self.positions(jnp.arange(length))
        x = self.drop(x, deterministic=not train)
        features, seen = {"hidden_0": x}, []
        # Padding comes last, so that no token attends to it.
        causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
        for number, layer in enumerate(self.layers, start=1):
            x, of_layer = layer(x, causal, train=train)
            features[f"hidden_{number}"] = x
            seen.append(of_layer)
        return x, features, seen

    def _logits(self, x: jax.Array) -> jax.Array:
        """Returns the logits of states, in float32."""
        if self.config.norm == "pre":
            x = self.norm(x)
        table = self.tokens.embedding.astype(self.dtype)
        return jnp.einsum("bld,vd->blv", x, table, preferred_element_type=jnp.float32)


def build(argument: str, num_classes: int, dtype: Any) -> Decoder:
    """Builds a decoder of GPT-2's kind.

    Args:
      argument: 'LAYERSxWIDTH', such as '2x64'. ',heads=N' can follow; without it there is an
        attention head for 64 channels, at least one.
      num_classes: the number of tokens of the vocabulary.
      dtype: dtype of the computation.

    Raises:
      InputError: the argument has another form, or its sizes do not fit each other.
    """
    match = _FORM.fullmatch(argument)
    if match is None:
        raise InputError(
            "expected decoder:LAYERSxWIDTH or decoder:LAYERSxWIDTH,heads=N with numbers from 1 to"
            f" 9999999, got 'decoder:{argument}'; write it in this form"
        )
    layers, width = int(match[1]), int(match[2])
    try:
        config = DecoderConfig(
            vocabulary=num_classes,
            layers=layers,
            width=width,
            heads=int(match[3]) if match[3] else max(1, width // _HEAD_SIZE),
            inner_width=4 * width,
            activation="gelu_new",
            norm="pre",
            attention_dropout=0.1,
        )
    except pydantic.ValidationError as error:
        raise InputError(
            f"decoder:{argument}: {problem_message(error.errors()[0])}; change it"
        ) from None
    return Decoder(config, dtype)
