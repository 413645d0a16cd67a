"""The sizes and settings of an encoder-decoder Transformer."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from akd_jax.host.settings import Fraction, NonNegative, Positive, PositiveInt

_Id = Annotated[int, Field(ge=0)]


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True))
class Seq2SeqConfig:
    """The sizes and settings of an encoder-decoder Transformer.

    Attributes:
      source_size: number of tokens of the source vocabulary.
      target_size: number of tokens of the target vocabulary.
      width: D.
      encoder_layers: number of layers of the encoder.
      decoder_layers: number of layers of the decoder.
      heads: attention heads per layer; must divide the width.
      inner_width: width inside a feed-forward block.
      activation: the activation of the feed-forward blocks, a name in ACTIVATIONS.
      norm: 'post', a layer norm after each residual connection; or 'pre', one before each block and
        one at the end of encoder and decoder.
      positions: 'sinusoidal', or 'learned'.
      max_length: the largest number of tokens of a text, with the start or the end token.
      scale_embeddings: whether embeddings are multiplied by sqrt(D).
      tied: 'all', one table for both embeddings and the output layer, which needs one vocabulary;
        'target', one for the target's embeddings and the output layer; or 'none'.
      output_bias: whether the logits have a bias.
      dropout: rate after the embeddings and after each block.
      attention_dropout: rate of the attention weights.
      layer_norm_eps: epsilon of the layer norms.
      initializer_range: standard deviation of the initial embeddings. The initial kernels are
        Xavier's.
      pad: the id of padding in the target vocabulary.
      start: the id of the first token of each target.
      end: the id of the last token of each target.

    Raises:
      pydantic.ValidationError: a value has the wrong type or is out of range.
    """

    source_size: PositiveInt
    target_size: PositiveInt
    width: PositiveInt
    encoder_layers: PositiveInt
    decoder_layers: PositiveInt
    heads: PositiveInt
    inner_width: PositiveInt
    activation: Literal["relu", "gelu", "swish"] = "relu"
    norm: Literal["post", "pre"] = "post"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_length: PositiveInt = 512
    scale_embeddings: bool = True
    tied: Literal["all", "target", "none"] = "all"
    output_bias: bool = True
    dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.0
    layer_norm_eps: Positive = 1e-5
    initializer_range: NonNegative = 0.02
    pad: _Id = 0
    start: _Id = 1
    end: _Id = 2

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"expected a width divisible by the {self.heads} heads, got {self.width}"
            )
        if self.tied == "all" and self.source_size != self.target_size:
            raise ValueError(
                "expected one vocabulary for tied embeddings, got"
                f" {self.source_size} and {self.target_size} tokens"
            )
        for name in ("pad", "start", "end"):
            if getattr(self, name) >= self.target_size:
                raise ValueError(
                    f"expected {name} below {self.target_size}, the number of tokens of the target"
                    f" vocabulary, got {getattr(self, name)}"
                )
