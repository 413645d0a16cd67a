r"""Two-stage textual distillation for speech understanding (Kim et al., ICASSP 2021).

A speech encoder over discrete codes learns from text models in steps. Each can be left out:

1. masked_codes: it predicts masked codes of recordings.
2. sentence: it also learns the vector that a frozen text encoder gives for the transcript (PT-KD).
3. ctc: its head learns to spell transcripts, with a frozen encoder (AM-PT).
4. The whole network learns the labels and, with logits.weight above 0, the logits of a text
   classifier that reads the transcripts (FT-KD), on augmented recordings (DA).

The steps 1 to 3 are separate networks, which several runs can share; textual_pretraining.py
builds them. The text classifier is the section `teacher`.

Source: Kim, Kim, Lee and Ha, "Two-stage Textual Knowledge Distillation for End-to-End Spoken
Language Understanding", ICASSP 2021, https://arxiv.org/abs/2010.13105.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from akd_jax import losses
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Fraction, NonNegative, Positive, PositiveInt, Section
from akd_jax.methods import textual_pretraining
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.methods.textual_settings import CtcConfig, MaskedCodesConfig, SentenceConfig
from akd_jax.models import input_kind
from akd_jax.models.network import Model
from akd_jax.models.spans import SpanMask, SpanMasks
from akd_jax.training.method import Method, Recipe
from akd_jax.training.stage import Stage
from akd_jax.types import Loss, Task, Variables


class LogitsConfig(Section):
    """Distillation of the text classifier's logits in the fine-tuning (FT-KD)."""

    weight: NonNegative = Field(
        default=0.0,
        description="Weight of the distance of the logits, next to the weight 1 of the labels; 0"
        " leaves it out. The paper uses 1.",
    )
    distance: Literal["l1", "kl"] = Field(
        default="l1",
        description="Distance of the logits: 'l1', the sum of the absolute differences as in the"
        " paper; or 'kl', the KL divergence of the softened probabilities.",
    )
    class_reduction: Literal["sum", "mean"] = Field(
        default="sum",
        description="Reduction of the absolute differences over the classes: 'sum' as in the paper,"
        " whose size grows with the number of classes, or 'mean'.",
    )
    temperature: Positive = Field(
        default=1.0, description="Temperature T of the distance 'kl', greater than 0."
    )


class AugmentationConfig(Section):
    """Random spans that are masked in the fine-tuning (DA)."""

    codes: Fraction = Field(
        default=0.0,
        description="Share of a recording's codes that are masked, if no spans overlap; 0 masks"
        " none. The paper uses 0.2.",
    )
    codes_span: PositiveInt = Field(default=5, description="Number of codes of a masked span.")
    time: Fraction = Field(
        default=0.0,
        description="Share of the encoder's states that are set to 0, if no spans overlap; 0 keeps"
        " all. The paper uses 0.5.",
    )
    time_span: PositiveInt = Field(default=10, description="Number of states of a span.")
    channels: Fraction = Field(
        default=0.0,
        description="Share of the channels of the encoder's states that are set to 0 at all"
        " positions, if no spans overlap; 0 keeps all. The paper uses 0.4.",
    )
    channels_span: PositiveInt = Field(default=5, description="Number of channels of a span.")


class Config(Section):
    """Settings of two-stage textual distillation."""

    masked_codes: MaskedCodesConfig = Field(
        default=MaskedCodesConfig(), description="Pretraining on masked codes."
    )
    sentence: SentenceConfig = Field(
        default=SentenceConfig(),
        description="Pretraining on the sentence vectors of a text encoder (PT-KD).",
    )
    ctc: CtcConfig = Field(
        default=CtcConfig(), description="Pretraining of the head on transcripts by CTC (AM-PT)."
    )
    logits: LogitsConfig = Field(
        default=LogitsConfig(), description="Distillation of the text classifier's logits (FT-KD)."
    )
    augmentation: AugmentationConfig = Field(
        default=AugmentationConfig(), description="Augmentation in the fine-tuning (DA)."
    )
    freeze_encoder: bool = Field(
        default=True,
        description="Whether the pretrained encoder keeps its values in the fine-tuning, as in the"
        " paper.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns the fine-tuning, which starts from the last of the pretrainings that are asked for.

    Raises:
      InputError: the student does not read codes; or its encoder would be frozen at random values.
    """
    settings, spec = config.section(Config), config.student.model
    if input_kind(spec) != "codes":
        raise InputError(
            "config.student.model: expected speech:CODES,LAYERSxWIDTH for the method textual_kd,"
            f" got {spec!r}; choose a network that reads codes"
        )
    if task.regression and settings.logits.distance == "kl":
        raise InputError(
            "config.textual_kd.logits.distance: expected 'l1' in a regression, which has no class"
            " probabilities, got 'kl'; set it to 'l1'"
        )
    teachers: dict[str, Recipe] = {}
    pretrained = textual_pretraining.recipe(
        config, settings.masked_codes, settings.sentence, settings.ctc
    )
    if pretrained is not None:
        teachers[pretrained[0]] = pretrained[1]
    elif settings.freeze_encoder:
        raise InputError(
            "config.textual_kd.freeze_encoder: expected False without a pretraining, got True,"
            " which would keep random values; set it to False or enable a pretraining"
        )
    terms: dict[str, tuple[float, Loss]] = {"labels": (1.0, losses.bind(losses.supervised))}
    if settings.logits.weight:
        teachers |= default_teacher(config)
        terms["logits"] = (settings.logits.weight, _distance(settings.logits))
    augmentation = settings.augmentation
    masks = None
    if augmentation.time or augmentation.channels:
        masks = SpanMasks(
            SpanMask(augmentation.time, augmentation.time_span, "random"),
            SpanMask(augmentation.channels, augmentation.channels_span, "random"),
        )
    prepare = None
    if augmentation.codes:
        spans = SpanMask(augmentation.codes, augmentation.codes_span)
        prepare = textual_pretraining.MaskCodes(spans)
    stage = Stage(
        "fine_tuning",
        config.student.epochs,
        losses.compose(**terms),
        config.student.optimizer,
        teachers=("teacher",) if settings.logits.weight else (),
        prepare=prepare,
        frozen=("encoder",) if settings.freeze_encoder else (),
        training_options={"state_masks": masks} if masks else {},
    )

    def initialise(student: Model, teachers: Mapping[str, Model], inputs: Any) -> Variables:
        del inputs
        if pretrained is None:
            return student.variables
        parts = ("encoder", "head") if pretrained[0] == textual_pretraining.CTC else ("encoder",)
        return textual_pretraining.take_over(student, teachers[pretrained[0]], parts)

    return Method("textual_kd", (stage,), teachers, initialise)


def _distance(config: LogitsConfig) -> Loss:
    """Returns the distance of the logits of the student and of the text classifier."""
    if config.distance == "kl":
        return losses.bind(losses.kl, temperature=config.temperature)
    return losses.bind(losses.absolute_error, class_reduction=config.class_reduction)


SPEC = MethodSpec(build, Config)
