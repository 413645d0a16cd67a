"""The pretrainings of textual distillation: masked codes, sentence vectors, and CTC.

Each is the training of a network of the student's architecture, which starts from the one before.
The loss owns what only the pretraining needs: the head of the masked codes, the map to the width of
the text encoder, and CTC's output layer.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import losses
from akd_jax.data import Batches, Examples, letters
from akd_jax.data.codes import MASK
from akd_jax.data.dataset import UNLABELLED_SPLIT, concatenate
from akd_jax.data.text import Vocabulary
from akd_jax.host.errors import InputError
from akd_jax.losses.randomness import example_keys
from akd_jax.methods.base import RunSettings, teacher_recipe
from akd_jax.methods.textual_settings import (
    CtcConfig,
    MaskedCodesConfig,
    PretrainingConfig,
    SentenceConfig,
)
from akd_jax.models import number_of_codes
from akd_jax.models.network import Model
from akd_jax.models.spans import SpanMask
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.evaluate import MeanLoss, Predictor
from akd_jax.training.method import Frozen, Method, Recipe
from akd_jax.training.stage import Evaluate, Stage, StageContext
from akd_jax.types import UNLABELLED, Batch, Clock, Loss, Outputs, Teacher, Variables

MASKED_CODES, SENTENCE, CTC = "masked_codes", "sentence", "ctc"  # The names of the networks.
_ENCODER = "sentence_encoder"
_CODES = "codes"
_STATES = {"first": "sentence", "mean": "mean_state"}  # The features of the student.


@dataclasses.dataclass(frozen=True)
class MaskCodes:
    """Masks spans of a recording's codes; `batch.extra` keeps the codes.

    Attributes:
      spans: the spans that are masked.
    """

    spans: SpanMask

    def __call__(
        self,
        student: Model,
        teachers: Mapping[str, Teacher],
        batch: Batch,
        clock: Clock,
        key: jax.Array,
    ) -> Batch:
        """Returns the batch with masked codes.

        `batch.extra` gets 'codes', the tokens before, int32 [B, T], and 'masked', bool [B, T].
        """
        del student, teachers, clock
        tokens = batch.inputs[_CODES]
        keys = example_keys(key, batch, None)  # The key is the same on all devices.
        masked = self.spans.draw(keys, tokens.lengths, tokens.ids.shape[1])
        ids = jnp.where(masked, MASK, tokens.ids)
        return batch.replace(
            inputs={**batch.inputs, _CODES: tokens.replace(ids=ids)},
            extra={**batch.extra, "codes": tokens.ids, "masked": masked},
        )


def recipe(
    config: RunSettings,
    masked_codes: MaskedCodesConfig,
    sentence: SentenceConfig,
    ctc: CtcConfig,
) -> tuple[str, Recipe] | None:
    """Returns the name and the recipe of the last pretraining; None if there is none.

    Args:
      config: the settings of the run.
      masked_codes: the settings of the pretraining on masked codes.
      sentence: the settings of the pretraining on sentence vectors.
      ctc: the settings of the pretraining by CTC.

    Raises:
      InputError: a pretraining does not have what it needs.
    """
    masks = masked_codes.model_dump(include={"rate", "span"})
    prepare = MaskCodes(SpanMask(**masks))
    codes = losses.MaskedCodes(number_of_codes(config.student.model))
    last: tuple[str, Recipe] | None = None
    if masked_codes.enabled:
        loss = losses.compose(masked_codes=(1.0, codes))
        last = _pretraining(config, MASKED_CODES, masked_codes, last, loss, masks, prepare=prepare)
    if sentence.enabled:
        if not sentence.encoder:
            raise InputError(
                "config.textual_kd.sentence.encoder: expected sentence:DIR with the folder of a"
                " text encoder, got none; set it, or set its `enabled` to False"
            )
        layers = (_STATES[sentence.state], "sentence")
        match = losses.Hint(layers, teacher=_ENCODER, always_project=False)
        loss = losses.compose(
            masked_codes=(sentence.masked_codes_weight, codes), sentence=(sentence.weight, match)
        )
        own = sentence.model_dump(include={"state", "weight", "masked_codes_weight"})
        encoder = Frozen(sentence.encoder, "config.textual_kd.sentence.encoder")
        last = _pretraining(
            config,
            SENTENCE,
            sentence,
            last,
            loss,
            {**masks, **own},
            encoder=encoder,
            prepare=prepare,
        )
    if ctc.enabled:
        if last is None:
            raise InputError(
                "config.textual_kd.ctc.enabled: expected False without a pretraining of the"
                " encoder, got True; enable masked_codes or sentence, or set it to False"
            )
        last = _pretraining(
            config,
            CTC,
            ctc,
            last,
            losses.CTC(letters.LABELS),
            ctc.model_dump(include={"max_letters"}),
            frozen=("encoder",),
            vocabularies=(letters.vocabulary(ctc.max_letters),),
        )
    return last


def take_over(student: Model, pretrained: Model, parts: Sequence[str]) -> Variables:
    """Returns the student's variables with those of some submodules of a pretrained network."""
    return {
        collection: {
            **values,
            **{part: pretrained.variables[collection][part] for part in parts if part in values},
        }
        for collection, values in student.variables.items()
    }


def _pretraining(
    config: RunSettings,
    name: str,
    section: PretrainingConfig,
    last: tuple[str, Recipe] | None,
    loss: Loss,
    settings: Mapping[str, Any],
    *,
    encoder: Frozen | None = None,
    vocabularies: tuple[Vocabulary, ...] = (),
    **options: Any,
) -> tuple[str, Recipe]:
    """Returns the name and the recipe of a pretraining.

    Args:
      config: the settings of the run.
      name: the name of the pretraining.
      section: its settings.
      last: the name and the recipe of the pretraining from which it starts.
      loss: its loss.
      settings: further settings that the result depends on.
      encoder: the text encoder that the loss reads.
      vocabularies: the tokenisations that the loss reads.
      **options: further attributes of the stage.
    """
    teachers: dict[str, Recipe] = {} if last is None else {last[0]: last[1]}
    if encoder is not None:
        teachers[_ENCODER] = encoder

    def evaluate(context: StageContext) -> Evaluate:
        batches, prepare = context.batches("validation"), options.get("prepare")
        if encoder is None:
            return MeanLoss(loss, {}, batches, prepare=prepare)
        model = context.models[_ENCODER]
        mean_loss = MeanLoss(loss, {_ENCODER: LiveTeacher(model)}, batches, prepare=prepare)
        return _SentenceScores(mean_loss, _variance(model, batches))

    def initialise(student: Model, teachers: Mapping[str, Model], inputs: Any) -> Variables:
        del inputs
        if last is None:
            return student.variables
        return take_over(student, teachers[last[0]], ("encoder",))

    def method() -> Method:
        stage = Stage(
            name,
            section.epochs,
            loss,
            section.optimizer,
            teachers=(_ENCODER,) if encoder else (),
            data=functools.partial(_examples, section.examples),
            evaluate=evaluate,
            select=("loss", "min"),
            **options,
        )
        return Method(
            name,
            (stage,),
            teachers,
            initialise,
            predicts_labels=False,
            vocabularies=vocabularies,
        )

    return name, teacher_recipe(
        section,
        f"textual_kd.{name}",
        method,
        model=config.student.model,
        pretraining={**settings, "examples": section.examples},
    )


@dataclasses.dataclass(frozen=True)
class _SentenceScores:
    """The mean loss of a stage, and its error of the sentence vectors relative to their variance.

    Attributes:
      mean_loss: the evaluation by the loss.
      variance: the variance of the text encoder's vectors. A student that always gives their mean
        has this error.
    """

    mean_loss: MeanLoss
    variance: float

    def __call__(self, model: Model, loss_variables: Variables, /) -> dict[str, float]:
        """Returns the scores of the loss, and 'sentence_unexplained', the share of the variance."""
        scores = self.mean_loss(model, loss_variables)
        share = scores["sentence"] / self.variance if self.variance else math.nan
        return {**scores, "sentence_unexplained": share}


def _variance(encoder: Model, batches: Batches) -> float:
    """Returns the variance of the sentence vectors, the mean over their elements."""

    def select(outputs: Outputs) -> Outputs:
        return Outputs(outputs.logits, {"sentence": outputs.features["sentence"]})

    vectors = Predictor(select=select)(encoder, batches).features["sentence"]
    return float(np.var(np.asarray(vectors), axis=0).mean())


def _examples(choice: Literal["unlabelled", "all"], context: StageContext) -> Examples:
    """Returns the recordings of a pretraining, without labels."""
    splits = context.dataset.splits
    if choice == "unlabelled" and UNLABELLED_SPLIT not in splits:
        raise InputError(
            "config.textual_kd: expected recordings without labels for a pretraining, got none;"
            " add pretrain_data.csv, or set the field `examples` of each pretraining to 'all'"
        )
    parts = [splits[UNLABELLED_SPLIT]] if UNLABELLED_SPLIT in splits else []
    if choice == "all":
        parts.append(splits["train"])
    examples = concatenate(parts)
    return Examples(examples.inputs, np.full(len(examples), UNLABELLED, np.int32))
