"""Heads of speech networks: from the hidden states of an encoder to a vector for an utterance.

A head maps states [B, T, D] to frames [B, T', F]. The light head has a frame for each position;
DeepSpeech's halves them, and an utterance of n positions then has ceil(n / 2) real frames. Padding
is set to 0 before each convolution, so that neither the other utterances of a batch nor its length
matter.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.models.layers import MaskedBatchNorm
from akd_jax.models.recurrent import Recurrent
from akd_jax.types import Array

HeadKind = Literal["light", "deepspeech"]

_CHANNELS = 32  # Of both convolutions of DeepSpeech 2.
_LAYERS = 5  # Recurrent layers of DeepSpeech 2.
_LARGEST = 20.0  # The activation of DeepSpeech 2 clips to this value.


class LightHead(nn.Module):
    """A small head: a convolution over five positions, ReLU, and a bidirectional GRU.

    It has a frame for each position, so that codes of 30 ms leave enough frames for the letters of
    a transcript, see `akd_jax.losses.CTC`.

    Attributes:
      width: W, the channels of the convolution and the width of each direction of the GRU.
      dtype: dtype of the convolution; the GRU computes in float32.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, states: jax.Array, lengths: Array, *, train: bool, axis_name: str | None
    ) -> tuple[jax.Array, jax.Array]:
        """Maps states [B, T, D] to frames [B, T, 2 W]; see `DeepSpeechHead` for the arguments."""
        del train, axis_name  # It has neither dropout nor statistics of the batch.
        x = zero_padding(states, lengths)
        x = nn.relu(nn.Conv(self.width, (5,), padding=2, dtype=self.dtype, name="conv")(x))
        lengths = jnp.asarray(lengths)
        return Recurrent(self.width, "gru", bidirectional=True, name="gru")(x, lengths), lengths


class DeepSpeechHead(nn.Module):
    """The head of Kim et al., which has the form of DeepSpeech 2.

    The states are an image of T columns and D rows. Two convolutions follow, both with 32 channels,
    a batch norm and a clip to 0 ... 20: the first has kernels of 11 columns and 41 rows, and stride
    2 in both directions; the second has 11 columns and 21 rows, and halves only the rows. A column
    of the result is a frame of 32 ceil(ceil(D / 2) / 2) numbers. Five bidirectional LSTMs follow,
    whose two directions are added. A batch norm precedes each of them but the first.

    The batch norms count only real frames. The authors' code counts padding, too. Its convolutions
    have a bias, which has no effect in front of a batch norm.

    Source: Amodei et al., "Deep Speech 2", ICML 2016, https://arxiv.org/abs/1512.02595; Kim et al.,
    "Two-stage Textual Knowledge Distillation for End-to-End Spoken Language Understanding", ICASSP
    2021, https://arxiv.org/abs/2010.13105.

    Attributes:
      width: W, the width of the LSTMs; 768 in the paper.
      dtype: dtype of the convolutions; the LSTMs compute in float32.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, states: jax.Array, lengths: Array, *, train: bool, axis_name: str | None
    ) -> tuple[jax.Array, jax.Array]:
        """Maps states [B, T, D] to frames [B, T', W].

        Args:
          states: the states of an encoder.
          lengths: the number of real positions of each utterance, int [B].
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are computed.

        Returns:
          The frames, and the number of real frames of each utterance, int [B].
        """

        def normalise(x: jax.Array, name: str) -> jax.Array:
            is_real = jnp.arange(x.shape[1]) < lengths[:, None]
            return MaskedBatchNorm(self.dtype, train, axis_name, name=name)(x, is_real)

        x = zero_padding(states, lengths)[..., None]
        lengths = halve(lengths)
        for number, (rows, strides) in enumerate(((41, (2, 2)), (21, (1, 2)))):
            x = nn.Conv(
                _CHANNELS,
                (11, rows),
                strides,
                padding=((5, 5), (rows // 2, rows // 2)),
                use_bias=False,
                dtype=self.dtype,
                name=f"conv_{number}",
            )(x)
            x = jnp.clip(normalise(x, f"conv_norm_{number}"), 0, _LARGEST)
            x = zero_padding(x, lengths)
        x = x.reshape(*x.shape[:2], -1)
        for number in range(_LAYERS):
            if number:
                x = normalise(x, f"lstm_norm_{number}")
            x = Recurrent(self.width, "lstm", True, "sum", name=f"lstm_{number}")(x, lengths)
        return x, lengths


HEADS: dict[HeadKind, type[LightHead | DeepSpeechHead]] = {
    "light": LightHead,
    "deepspeech": DeepSpeechHead,
}


def halve(lengths: Array) -> jax.Array:
    """Returns the lengths [B] after a convolution with stride 2, rounded up."""
    return (jnp.asarray(lengths) + 1) // 2


def zero_padding(x: jax.Array, lengths: Array) -> jax.Array:
    """Sets the padding of sequences [B, T, ...] to 0."""
    is_real = jnp.arange(x.shape[1]) < jnp.asarray(lengths)[:, None]
    return jnp.where(jnp.expand_dims(is_real, range(2, x.ndim)), x, 0)


def masked_maximum(frames: jax.Array, is_real: jax.Array) -> jax.Array:
    """Returns the maximum of frames [B, T', F] over the real ones, [B, F]; 0 without a real frame.

    Args:
      frames: the frames.
      is_real: which of them are real, bool [B, T'].
    """
    largest = jnp.where(is_real[..., None], frames, -jnp.inf).max(axis=1)
    return jnp.where(is_real.any(axis=1)[:, None], largest, 0)
