"""Networks for speech as discrete codes: an encoder of the codes, and a head for an utterance."""

import re
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.encoder import EncoderConfig, hidden_states
from akd_jax.models.layers import classifier, classify
from akd_jax.models.spans import SpanMasks
from akd_jax.models.speech_heads import HEADS, HeadKind, masked_maximum, zero_padding
from akd_jax.types import Outputs, Tokens

# The tokens before the first code: the start of an utterance, padding, and a masked code.
_SPECIAL_TOKENS, _PADDING = 3, 1
MAX_POSITIONS = 2048
_HEAD_SIZE = 64  # The width of an attention head.

_SIZE = "([1-9][0-9]{0,5})"
_SPECIFICATION = re.compile(f"{_SIZE},{_SIZE}x{_SIZE}(?:,({'|'.join(HEADS)})(?::{_SIZE})?)?")


class Speech(nn.Module):
    """A classifier of speech that is given as discrete codes.

    An encoder like BERT reads the codes of an utterance after a start token <s>. A head with
    convolutions and recurrent layers reads the states of its last layer. The maximum over the
    frames of the head is the input of the classifier. The submodules are called 'encoder', 'head'
    and 'classifier'; a stage can freeze each of them.

    It is the student of Kim et al., whose encoder is VQ-BERT on the codes of vq-wav2vec and whose
    head is `DeepSpeechHead`.

    Source: Kim et al., "Two-stage Textual Knowledge Distillation for End-to-End Spoken Language
    Understanding", ICASSP 2021, https://arxiv.org/abs/2010.13105; Baevski et al., "vq-wav2vec",
    ICLR 2020, https://arxiv.org/abs/1910.05453.

    Attributes:
      config: sizes and settings of the encoder.
      num_classes: C; 1 for a regression.
      head_kind: 'light' for `LightHead`, 'deepspeech' for `DeepSpeechHead`.
      head_width: the width of the head.
      dtype: dtype of the computation; parameters, statistics, recurrent layers and logits are
        float32.
    """

    config: EncoderConfig
    num_classes: int
    head_kind: HeadKind = "light"
    head_width: int = 128
    dtype: Any = jnp.float32

    @property
    def codes(self) -> int:
        """The number of codes that the network reads."""
        return self.config.vocab_size - _SPECIAL_TOKENS

    @nn.compact
    def __call__(
        self,
        tokens: Tokens,
        *,
        train: bool = False,
        axis_name: str | None = None,
        state_masks: SpanMasks | None = None,
    ) -> Outputs:
        """Maps utterances [B, T] to logits [B, C] and features.

        The features are those of `Encoder` except 'pooled', such as 'hidden_0' ... 'hidden_N' and
        'last_hidden_state' [B, T, D], and
          'sentence' [B, D], the state of the first token in the last layer, in float32;
          'mean_state' [B, D], the mean of the states of the last layer over the real tokens, in
            float32;
          'frames' [B, T', F], the states of the head before the maximum, T' = T with the
            light head and ceil(T / 2) with DeepSpeech's;
          'frame_mask' [B, T'], which frames are real, bool;
          'pooled' [B, F], their maximum, the input of the classifier in float32.
        F is twice the width of the light head, and the width of DeepSpeech's.

        Args:
          tokens: the utterances, as `akd_jax.data.codes` returns them.
          train: whether dropout is active, and batch norm uses the statistics of the batch and
            updates the running ones.
          axis_name: axis of devices over which these statistics are computed.
          state_masks: in training, spans of the encoder's states that are set to 0 before the head
            reads them; None for none.
        """
        features = _Encoder(self.config, self.dtype, name="encoder")(tokens, train=train)
        states = features["last_hidden_state"]
        sentence = states[:, 0].astype(jnp.float32)
        total = zero_padding(states, tokens.lengths).sum(axis=1, dtype=jnp.float32)
        mean_state = total / jnp.maximum(jnp.asarray(tokens.lengths, jnp.float32), 1)[:, None]
        if train and state_masks is not None:
            keys = jax.random.split(self.make_rng("dropout"), len(states))
            states = state_masks.apply(keys, states, tokens.lengths)
        head = HEADS[self.head_kind](self.head_width, self.dtype, name="head")
        frames, lengths = head(states, tokens.lengths, train=train, axis_name=axis_name)
        frame_mask = jnp.arange(frames.shape[1]) < lengths[:, None]
        pooled = masked_maximum(frames, frame_mask).astype(jnp.float32)
        logits, last_layer = classify(classifier(self.num_classes, name="classifier"), pooled)
        features |= {
            "sentence": sentence,
            "mean_state": mean_state,
            "frames": frames,
            "frame_mask": frame_mask,
            "pooled": pooled,
        }
        return Outputs(logits, features, mask=tokens.mask, head=last_layer)


class _Encoder(nn.Module):
    """The embeddings and layers of an encoder."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Tokens, *, train: bool) -> dict[str, jax.Array]:
        """Maps utterances [B, T] to the features of `hidden_states`."""
        return hidden_states(self.config, self.dtype, tokens, train=train)


def build(argument: str, num_classes: int, dtype: Any) -> Speech:
    """Builds a network for discrete codes of speech.

    The encoder has an attention head for 64 channels, at least one, and blocks four times as wide
    as its states.

    Args:
      argument: 'CODES,LAYERSxWIDTH', such as '256,3x128', with the number of codes; or with the
        head and its width, such as '256,3x128,light:64' or '102400,12x768,deepspeech'. Without
        them, the head is the light one, as wide as the encoder.
      num_classes: C; 1 for a regression.
      dtype: dtype of the computation.

    Raises:
      InputError: the argument has another form, or the width has no such attention heads.
    """
    match = _SPECIFICATION.fullmatch(argument)
    if match is None:
        raise InputError(
            "expected speech:CODES,LAYERSxWIDTH or speech:CODES,LAYERSxWIDTH,HEAD:HEADWIDTH with a"
            f" HEAD among {', '.join(HEADS)} and numbers from 1 to 999999, got"
            f" 'speech:{argument}'; write it as in speech:256,3x128,light:128"
        )
    *sizes, head_kind, head_width = match.groups()
    codes, layers, width = map(int, sizes)
    heads = max(1, width // _HEAD_SIZE)
    if width % heads:
        raise InputError(
            f"speech:{argument}: expected a width that is divisible by {heads}, its attention heads"
            f" of {_HEAD_SIZE} channels, got {width}; use {heads * _HEAD_SIZE}"
        )
    config = EncoderConfig(
        model_type="bert",
        vocab_size=_SPECIAL_TOKENS + codes,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=MAX_POSITIONS,
        type_vocab_size=1,
        pad_token_id=_PADDING,
    )
    kind = cast(HeadKind, head_kind or "light")
    return Speech(config, num_classes, kind, int(head_width or width), dtype)
