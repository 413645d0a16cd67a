"""The sizes and settings of an encoder-decoder Transformer."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from akd_jax.host.settings import PositiveInt
from akd_jax.models.transformer_layers import STRICT, LayerConfig

_Id = Annotated[int, Field(ge=0)]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Seq2SeqConfig(LayerConfig):
    """The sizes and settings of an encoder-decoder Transformer, besides those of its layers.

    Attributes:
      source_size: number of tokens of the source vocabulary.
      target_size: number of tokens of the target vocabulary.
      encoder_layers: number of layers of the encoder.
      decoder_layers: number of layers of the decoder.
      positions: 'sinusoidal', or 'learned'.
      max_length: the largest number of tokens of a text, with the start or the end token.
      scale_embeddings: whether embeddings are multiplied by sqrt(D).
      tied: 'all', one table for both embeddings and the output layer, which needs one vocabulary;
        'target', one for the target's embeddings and the output layer; or 'none'.
      output_bias: whether the logits have a bias.
      pad: the id of padding in the target vocabulary.
      start: the id of the first token of each target.
      end: the id of the last token of each target.

    Raises:
      pydantic.ValidationError: a value has the wrong type or is out of range.
    """

    source_size: PositiveInt
    target_size: PositiveInt
    encoder_layers: PositiveInt
    decoder_layers: PositiveInt
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_length: PositiveInt = 512
    scale_embeddings: bool = True
    tied: Literal["all", "target", "none"] = "all"
    output_bias: bool = True
    pad: _Id = 0
    start: _Id = 1
    end: _Id = 2

    def __post_init__(self) -> None:
        super().__post_init__()
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
