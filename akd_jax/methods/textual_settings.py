"""Settings of the pretrainings of textual distillation."""

from typing import Literal

from pydantic import Field

from akd_jax.host.settings import Fraction, Positive, PositiveInt
from akd_jax.methods.base import TrainingConfig


class PretrainingConfig(TrainingConfig):
    """A pretraining that can be left out."""

    enabled: bool = Field(
        default=True, description="Whether the student is pretrained in this way."
    )
    examples: Literal["unlabelled", "all"] = Field(
        default="unlabelled",
        description="Recordings of the pretraining: 'unlabelled', those without labels; or 'all',"
        " those of the training split too, whose labels are not used.",
    )


class MaskedCodesConfig(PretrainingConfig):
    """Pretraining on masked codes, in the place of the paper's VQ-BERT."""

    rate: Fraction = Field(
        default=0.5,
        description="Share of a recording's codes that are masked, if no spans overlap; the"
        " pretraining on sentence vectors uses it too.",
    )
    span: PositiveInt = Field(default=20, description="Number of codes of a masked span.")


class SentenceConfig(PretrainingConfig):
    """Pretraining on the sentence vectors of a text encoder, and on masked codes."""

    encoder: str = Field(
        default="",
        description="The frozen text encoder, sentence:DIR with a Hugging Face folder.",
    )
    state: Literal["first", "mean"] = Field(
        default="first",
        description="What learns the vector: 'first', the encoder's state of the first token, as in"
        " the paper; or 'mean', the mean of its states.",
    )
    weight: Positive = Field(
        default=1.0, description="Weight of the squared error of the sentence vectors."
    )
    masked_codes_weight: Positive = Field(
        default=1.0, description="Weight of the cross-entropy of the masked codes."
    )


class CtcConfig(PretrainingConfig):
    """Pretraining of the head on the letters of transcripts; the encoder is frozen."""

    enabled: bool = Field(
        default=False, description="Whether the head of the student is pretrained in this way."
    )
    max_letters: PositiveInt = Field(
        default=96, description="Largest number of letters of a transcript; the rest is cut off."
    )
