"""BERT, RoBERTa, XLM-RoBERTa and DistilBERT: encoders of text with a classification head.

Devlin et al., 2019, https://arxiv.org/abs/1810.04805; Liu et al., 2019,
https://arxiv.org/abs/1907.11692; Conneau et al., 2020, https://arxiv.org/abs/1911.02116; Sanh et
al., 2019, https://arxiv.org/abs/1910.01108.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import pydantic
from pydantic import Field

from akd_jax.host.settings import Fraction, NonNegative, Positive, PositiveInt
from akd_jax.models.layers import classifier, classify
from akd_jax.types import Outputs, Tokens

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "relu": jax.nn.relu,
}
_ROBERTAS = ("roberta", "xlm-roberta")


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True))
class EncoderConfig:
    """The sizes and settings of an encoder, with the names of BERT's config.json.

    Attributes:
      model_type: 'bert', 'roberta', 'xlm-roberta' or 'distilbert'. The two RoBERTas count positions
        from pad_token_id + 1. DistilBERT has no embedding of token types.
      vocab_size: number of tokens in the vocabulary.
      hidden_size: D, the width.
      num_hidden_layers: number of layers.
      num_attention_heads: attention heads per layer; must divide hidden_size.
      intermediate_size: width inside a feed-forward block.
      max_position_embeddings: rows of the position embedding.
      type_vocab_size: 2 if the model distinguishes the two sentences of a pair, otherwise 1.
      pad_token_id: id of the padding token.
      hidden_act: activation function, a name in ACTIVATIONS.
      layer_norm_eps: epsilon of the layer norms.
      hidden_dropout_prob: dropout rate of the embeddings and the blocks.
      attention_probs_dropout_prob: dropout rate of the attention weights.
      classifier_dropout: dropout rate of the head; None for hidden_dropout_prob.
      initializer_range: standard deviation of the initial weights.

    Raises:
      pydantic.ValidationError: a value has the wrong type or is out of range.
    """

    model_type: Literal["bert", "roberta", "xlm-roberta", "distilbert"]
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
                f"expected a width divisible by the {self.num_attention_heads} heads, got"
                f" {self.hidden_size}"
            )

    @property
    def first_position(self) -> int:
        """The row of the position embedding that belongs to the first token."""
        return self.pad_token_id + 1 if self.model_type in _ROBERTAS else 0

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a text."""
        return self.max_position_embeddings - self.first_position


class Encoder(nn.Module):
    """A post-norm transformer encoder with a classification head on the first token.

    The head is a dense layer with tanh, or with ReLU in DistilBERT, followed by a dense layer to
    the logits. The first one is BERT's pooler, the first layer of RoBERTa's classifier, or
    DistilBERT's pre-classifier.

    Attributes:
      config: sizes and settings.
      num_classes: C; 1 for a regression.
      dtype: dtype of the computation; parameters, softmax and logits are float32.
    """

    config: EncoderConfig
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps tokens [B, L] to logits [B, C] and features.

        The features of an encoder with N layers are:
          'hidden_0' [B, L, D], the embeddings, after their layer norm;
          'hidden_1' ... 'hidden_N' [B, L, D], the output of each layer;
          'last_hidden_state', the same array as 'hidden_N';
          'query_1' ... 'query_N', 'key_1' ... 'key_N' and 'value_1' ... 'value_N'
            [B, L, heads, D / heads], the inputs of the attention of each layer;
          'attention_1' ... 'attention_N' [B, heads, L, L], the attention scores
            q . k / sqrt(D / heads) of each layer before mask and softmax, in float32: a row for
            each query and a column for each key;
          'pooled' [B, D], the input of the classifier in float32.
        Positions of padding hold arbitrary values. The scores are not those that the attention
        itself computes; XLA removes them if nothing reads them.

        Args:
          tokens: padded texts; no token attends to padding.
          train: whether dropout is active.
          axis_name: ignored, because the encoder uses no statistics of the batch.
        """
        del axis_name
        config = self.config
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal(config))
        rate = config.hidden_dropout_prob
        head_rate = rate if config.classifier_dropout is None else config.classifier_dropout
        features = hidden_states(config, self.dtype, tokens, train=train)
        x = features["last_hidden_state"]

        head_dropout = nn.Dropout(head_rate, deterministic=not train)
        first = x[:, 0]
        if config.model_type in _ROBERTAS:
            first = head_dropout(first)
        activation = jax.nn.relu if config.model_type == "distilbert" else jnp.tanh
        pooled = head_dropout(activation(dense(config.hidden_size, name="pooler")(first)))
        pooled = pooled.astype(jnp.float32)
        output_layer = classifier(self.num_classes, kernel_init=_normal(config), name="classifier")
        logits, head = classify(output_layer, pooled)
        return Outputs(logits, {**features, "pooled": pooled}, mask=tokens.mask, head=head)


def hidden_states(
    config: EncoderConfig, dtype: Any, tokens: Tokens, *, train: bool
) -> dict[str, jax.Array]:
    """Runs the embeddings and layers of an encoder; the calling compact method owns their modules.

    Args:
      config: sizes and settings.
      dtype: dtype of the computation.
      tokens: padded texts [B, L].
      train: whether dropout is active.

    Returns:
      The features of `Encoder`, without 'pooled'.
    """
    real = tokens.mask
    x = Embeddings(config, dtype, name="embeddings")(tokens, real)
    x = nn.Dropout(config.hidden_dropout_prob, deterministic=not train)(x)
    features = {"hidden_0": x}
    for number in range(config.num_hidden_layers):
        x, inner = Layer(config, dtype, name=f"layer_{number}")(x, real, train=train)
        features[f"hidden_{number + 1}"] = x
        features |= {f"{name}_{number + 1}": feature for name, feature in inner.items()}
    return {**features, "last_hidden_state": x}


class Embeddings(nn.Module):
    """The sum of word, position and token type embeddings, followed by a layer norm.

    DistilBERT ignores the token types.
    """

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Tokens, real: jax.Array) -> jax.Array:
        """Maps tokens [B, L] to embeddings [B, L, D]; `real` [B, L] is False for padding."""
        config = self.config
        embed = functools.partial(
            nn.Embed,
            features=config.hidden_size,
            dtype=self.dtype,
            embedding_init=_normal(config),
        )
        positions = config.first_position + jnp.arange(tokens.ids.shape[1])
        if config.model_type in _ROBERTAS:  # They have a separate position for padding.
            positions = jnp.where(real, positions, config.pad_token_id)
        x = embed(config.vocab_size, name="word")(jnp.asarray(tokens.ids))
        x += embed(config.max_position_embeddings, name="position")(positions)
        if config.model_type != "distilbert":
            token_type_ids = (
                tokens.token_type_ids
                if config.type_vocab_size > 1
                else jnp.zeros_like(tokens.token_type_ids)
            )
            x += embed(config.type_vocab_size, name="type")(jnp.asarray(token_type_ids))
        return _norm(config, self.dtype, "norm")(x)


class Layer(nn.Module):
    """Self-attention and a feed-forward block, each with a residual connection and a layer norm."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, real: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps [B, L, D] to [B, L, D] and to the features of the attention, as in `Encoder`.

        No token attends to those that are not `real` [B, L].
        """
        config = self.config
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal(config))
        dropout = nn.Dropout(config.hidden_dropout_prob, deterministic=not train)
        heads = (*x.shape[:2], config.num_attention_heads, -1)
        query, key, value = (
            dense(config.hidden_size, name=name)(x).reshape(heads)
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        scores /= math.sqrt(query.shape[-1])
        mask = real[:, None, None, :]
        if train and config.attention_probs_dropout_prob > 0:
            # jax.nn.dot_product_attention does not support dropout.
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
        if config.model_type != "distilbert":
            attended = dropout(attended)
        x = _norm(config, self.dtype, "attention_norm")(x + attended)
        y = ACTIVATIONS[config.hidden_act](dense(config.intermediate_size, name="intermediate")(x))
        y = dense(config.hidden_size, name="output")(y)
        x = _norm(config, self.dtype, "output_norm")(x + dropout(y))
        return x, {"query": query, "key": key, "value": value, "attention": scores}


def _normal(config: EncoderConfig) -> Any:
    return nn.initializers.normal(config.initializer_range)


def _norm(config: EncoderConfig, dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, name=name)
