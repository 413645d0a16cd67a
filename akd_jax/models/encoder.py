"""BERT and RoBERTa (Devlin et al., 2019, https://arxiv.org/abs/1810.04805; Liu et al., 2019,
https://arxiv.org/abs/1907.11692): transformer encoders of text with a head on the first token.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import pydantic
from pydantic import Field

from akd_jax.config import Fraction, NonNegative, Positive, PositiveInt
from akd_jax.models.layers import classifier
from akd_jax.types import Outputs, Tokens

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "relu": jax.nn.relu,
}


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True))
class EncoderConfig:
    """The sizes and settings of an encoder, named as in Hugging Face's config.json.

    Attributes:
      model_type: 'bert' or 'roberta'. RoBERTa counts positions from pad_token_id + 1.
      vocab_size: tokens of the vocabulary.
      hidden_size: D, the width.
      num_hidden_layers: layers.
      num_attention_heads: heads of each; they divide the width.
      intermediate_size: the width within a feed-forward block.
      max_position_embeddings: rows of the table of positions.
      type_vocab_size: 2 where the second of two sentences is marked, else 1.
      pad_token_id: the id of padding.
      hidden_act: a name in ACTIVATIONS.
      layer_norm_eps: of the normalisations.
      hidden_dropout_prob: of embeddings, blocks and, unless classifier_dropout says
        otherwise, the head.
      attention_probs_dropout_prob: of the attention's weights.
      classifier_dropout: of the head.
      initializer_range: standard deviation of random weights.
    """

    model_type: Literal["bert", "roberta"]
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    max_position_embeddings: PositiveInt
    type_vocab_size: PositiveInt = 2
    pad_token_id: Annotated[int, Field(ge=0)] = 0
    hidden_act: Literal["gelu", "gelu_new", "relu"] = "gelu"
    layer_norm_eps: Positive = 1e-12
    hidden_dropout_prob: Fraction = 0.1
    attention_probs_dropout_prob: Fraction = 0.1
    classifier_dropout: Fraction | None = None
    initializer_range: NonNegative = 0.02

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"expected a hidden_size that the {self.num_attention_heads} heads divide, got"
                f" {self.hidden_size}"
            )

    @property
    def first_position(self) -> int:
        """The row of the first token in the table of positions."""
        return self.pad_token_id + 1 if self.model_type == "roberta" else 0

    @property
    def max_length(self) -> int:
        """The most tokens of a text."""
        return self.max_position_embeddings - self.first_position


class Encoder(nn.Module):
    """Embeddings, layers with the normalisation after each block, and a head.

    The head is a dense layer with tanh on the first token, BERT's pooler and the first half
    of RoBERTa's classifier, and a dense layer to the logits.

    Attributes:
      config: its sizes.
      num_classes: C; 1 for a regression.
      dtype: what it computes in; parameters, softmax and logits are float32.
    """

    config: EncoderConfig
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps tokens [B, L] to logits [B, C], and 'last_hidden_state' [B, L, D] in the features.

        Args:
          tokens: what follows a text's length is padding: no token attends to it.
          train: whether dropout is on.
          axis_name: not used; nothing is computed over the devices.
        """
        del axis_name
        config = self.config
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal(config))
        rate = config.hidden_dropout_prob
        head_rate = rate if config.classifier_dropout is None else config.classifier_dropout
        real = jnp.arange(tokens.ids.shape[1]) < jnp.asarray(tokens.lengths)[:, None]  # [B, L]

        x = Embeddings(config, self.dtype, name="embeddings")(tokens, real)
        x = nn.Dropout(rate, deterministic=not train)(x)
        for number in range(config.num_hidden_layers):
            x = Layer(config, self.dtype, name=f"layer_{number}")(x, real, train=train)

        head_dropout = nn.Dropout(head_rate, deterministic=not train)
        first = x[:, 0]
        if config.model_type == "roberta":
            first = head_dropout(first)
        pooled = head_dropout(jnp.tanh(dense(config.hidden_size, name="pooler")(first)))
        logits = classifier(self.num_classes, kernel_init=_normal(config), name="classifier")(
            pooled.astype(jnp.float32)
        )
        return Outputs(logits=logits, features={"last_hidden_state": x})


class Embeddings(nn.Module):
    """The sum of a token's, its position's and its sentence's embedding, normalised."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Tokens, real: jax.Array) -> jax.Array:
        """Maps tokens [B, L] to [B, L, D]."""
        config = self.config
        embed = functools.partial(
            nn.Embed,
            features=config.hidden_size,
            dtype=self.dtype,
            embedding_init=_normal(config),
        )
        positions = config.first_position + jnp.arange(tokens.ids.shape[1])
        if config.model_type == "roberta":  # Padding has a position of its own.
            positions = jnp.where(real, positions, config.pad_token_id)
        types = (
            tokens.token_type_ids
            if config.type_vocab_size > 1
            else jnp.zeros_like(tokens.token_type_ids)
        )
        x = embed(config.vocab_size, name="word")(jnp.asarray(tokens.ids))
        x += embed(config.max_position_embeddings, name="position")(positions)
        x += embed(config.type_vocab_size, name="type")(jnp.asarray(types))
        return _norm(config, self.dtype, "norm")(x)


class Layer(nn.Module):
    """Self-attention, then a feed-forward block; each is added to its input and normalised."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, L, D] to [B, L, D]; tokens that are not real [B, L] are not attended to."""
        config = self.config
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal(config))
        dropout = nn.Dropout(config.hidden_dropout_prob, deterministic=not train)
        heads = (*x.shape[:2], config.num_attention_heads, -1)
        query, key, value = (
            dense(config.hidden_size, name=name)(x).reshape(heads)
            for name in ("query", "key", "value")
        )
        mask = real[:, None, None, :]
        if train and config.attention_probs_dropout_prob > 0:
            # jax.nn.dot_product_attention knows no dropout.
            attended = nn.dot_product_attention(
                query,
                key,
                value,
                mask=mask,
                dropout_rng=self.make_rng("dropout"),
                dropout_rate=config.attention_probs_dropout_prob,
                broadcast_dropout=False,
                dtype=self.dtype,
                force_fp32_for_softmax=True,
            )
        else:
            attended = jax.nn.dot_product_attention(query, key, value, mask=mask)
        attended = dense(config.hidden_size, name="attention_output")(attended.reshape(x.shape))
        x = _norm(config, self.dtype, "attention_norm")(x + dropout(attended))
        y = ACTIVATIONS[config.hidden_act](dense(config.intermediate_size, name="intermediate")(x))
        y = dense(config.hidden_size, name="output")(y)
        return _norm(config, self.dtype, "output_norm")(x + dropout(y))


def _normal(config: EncoderConfig) -> Any:
    return nn.initializers.normal(config.initializer_range)


def _norm(config: EncoderConfig, dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, name=name)
