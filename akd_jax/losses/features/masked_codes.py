"""Prediction of masked codes of speech, as in the pretraining of VQ-BERT."""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED
from akd_jax.losses.features.projectors import apply_to_rows
from akd_jax.losses.logits.labels import cross_entropy
from akd_jax.types import Batch, Clock, Outputs, Term


class MaskedCodes(nn.Module):
    """The cross-entropy of masked codes, predicted from the student's states at their positions.

        value = -log softmax(r(h))[code]        r = dense, GELU, layer norm, dense

    The stage's `prepare` masks the codes that the student reads, and adds two arrays [B, T] to
    `batch.extra`: 'codes', the token ids before the masking, int32; and 'masked', which positions
    are masked, bool. r runs at M = ceil(share T) positions per example, a number that does not
    depend on the example. Masked positions after the first M of an example do not count.

    r has the form of RoBERTa's head, without the weights that it shares with the embedding. Its
    parameters are trained with the student and belong to the loss. No teacher is read.

    Source: Baevski et al., "vq-wav2vec", ICLR 2020, https://arxiv.org/abs/1910.05453; Kim et al.,
    "Two-stage Textual Knowledge Distillation for End-to-End Spoken Language Understanding", ICASSP
    2021, https://arxiv.org/abs/2010.13105, which adds the error of the sentence vector.

    Attributes:
      codes: number of codes.
      layer: the student's states, a feature [B, T, D].
      first_code: the token id of the first code.
      share: the share of the positions that r can predict, greater than 0 and at most 1.
    """

    codes: int
    layer: str = "last_hidden_state"
    first_code: int = 3
    share: float = 0.5

    @nn.compact
    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns one term, a value per predicted position [B, M].

        Raises:
          ValueError: `batch.extra` has no masked codes of the shape of the states, or the share is
            out of range.
        """
        del teachers, clock
        checks.check_values("share", self.share, "a number in (0, 1]", lambda x: (x > 0) & (x <= 1))
        states = jnp.asarray(student.features[self.layer], jnp.float32)
        shapes = [jnp.shape(batch.extra.get(name, 0)) for name in ("codes", "masked")]
        if states.ndim != 3 or shapes != [states.shape[:2]] * 2:
            raise ValueError(
                "MaskedCodes: expected states [B, T, D], and 'codes' and 'masked' [B, T] in"
                f" batch.extra, got shapes {states.shape}, {shapes[0]} and {shapes[1]}; set a"
                " `prepare` of the stage that masks codes"
            )
        codes, masked = (jnp.asarray(batch.extra[name]) for name in ("codes", "masked"))
        length, width = states.shape[1:]
        # Products with a matrix of zeros and ones, because the gradient of an indexed array would
        # be a scatter, which is slow.
        number = jnp.cumsum(masked, axis=1) - 1
        places = jnp.arange(math.ceil(self.share * length))
        chosen = masked[:, None] & (number[:, None] == places[:, None])  # [B, M, T]
        states = jnp.einsum(
            "bmt,btd->bmd",
            chosen.astype(jnp.float32),
            states,
            precision=jax.lax.Precision.HIGHEST,
        )
        x = apply_to_rows(nn.Dense(width, name="dense"), states)
        x = nn.LayerNorm(epsilon=1e-5, name="norm")(nn.gelu(x, approximate=False))
        logits = apply_to_rows(nn.Dense(self.codes, name="output"), x)
        is_chosen = chosen.any(axis=2)
        classes = jnp.where(chosen, codes[:, None], 0).sum(axis=2) - self.first_code
        values = cross_entropy(logits, jnp.where(is_chosen, classes, 0))
        weights = jnp.where(is_chosen, jnp.asarray(batch.weights)[:, None], 0)
        return {UNNAMED: Term(values, weights)}
