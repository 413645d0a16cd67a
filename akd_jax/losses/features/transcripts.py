"""Prediction of a transcript's letters from frames of speech."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from akd_jax.losses.binding import UNNAMED
from akd_jax.losses.logits.alignments import ctc, ctc_alignable
from akd_jax.types import Batch, Clock, Outputs, Term


class CTC(nn.Module):
    """The CTC loss of transcripts: `ctc` of a dense layer on the student's frames.

    The inputs of the batch have the letters of the transcripts as `Tokens`, whose ids are classes
    other than the blank 0. A transcript that needs more frames than there are does not count. The
    parameters of the layer are trained with the student and belong to the loss. No teacher is read.

    The textual distillation of Kim et al. pretrains the head of its student in this way, on a
    frozen encoder (AM-PT).

    Source: Graves et al., "Connectionist Temporal Classification", ICML 2006,
    https://doi.org/10.1145/1143844.1143891; Kim et al., "Two-stage Textual Knowledge Distillation
    for End-to-End Spoken Language Understanding", ICASSP 2021, https://arxiv.org/abs/2010.13105.

    Attributes:
      classes: number of letters, with the blank.
      layer: the student's frames, a feature [B, T, F].
      mask: the feature that tells which frames are real, bool [B, T].
      letters: the key of the letters in the inputs of the batch.

    Raises:
      ValueError: as `ctc`, when it is called.
    """

    classes: int
    layer: str = "frames"
    mask: str = "frame_mask"
    letters: str = "letters"

    @nn.compact
    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns one term, a value per example [B]."""
        del teachers, clock
        frames = jnp.asarray(student.features[self.layer], jnp.float32)
        mask, letters = student.features[self.mask], batch.inputs[self.letters]
        labels = jnp.where(letters.mask, letters.ids, 0)
        logits = nn.Dense(self.classes, name="output")(frames)
        weights = jnp.where(ctc_alignable(labels, mask), jnp.asarray(batch.weights), 0)
        return {UNNAMED: Term(ctc(logits, labels, mask=mask, weights=weights), weights)}
