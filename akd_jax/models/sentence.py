"""Encoders without a head, from Hugging Face folders: one vector for a text."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from akd_jax.models import huggingface
from akd_jax.models.encoder import EncoderConfig, hidden_states
from akd_jax.types import Outputs, Tokens


class Sentence(nn.Module):
    """An encoder that returns the mean of its last hidden states, as a teacher of vectors.

    The mean runs over all real tokens, with the special ones, as in the library
    sentence-transformers. The vector is scaled to the norm sqrt(D), so that the mean square of its
    elements is 1, for any encoder.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, https://arxiv.org/abs/1908.10084.

    Attributes:
      config: sizes and settings of the encoder.
      dtype: dtype of the computation; parameters and the vector are float32.
    """

    config: EncoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps texts [B, L] to features; the logits are empty, [B, 0].

        The features are those of `Encoder` without 'pooled', and 'sentence' [B, D], the vector.

        Args:
          tokens: padded texts.
          train: whether dropout is active.
          axis_name: ignored, because the encoder uses no statistics of the batch.
        """
        del axis_name
        features = hidden_states(self.config, self.dtype, tokens, train=train)
        states = jnp.where(tokens.mask[..., None], features["last_hidden_state"], 0)
        # The norm makes a division by the number of tokens unnecessary.
        total = states.sum(axis=1, dtype=jnp.float32)
        norm = jnp.linalg.norm(total, axis=-1, keepdims=True)
        sentence = math.sqrt(total.shape[-1]) * total / jnp.maximum(norm, 1e-12)
        logits = jnp.zeros((len(sentence), 0))
        return Outputs(logits, {**features, "sentence": sentence}, mask=tokens.mask)


def build(argument: str, num_classes: int, dtype: Any) -> Sentence:
    """Builds the encoder of a folder without a head. `huggingface.Weights` reads its weights.

    Args:
      argument: 'DIR'; 'DIR,every=N' for every N-th layer; or 'DIR,first=N' for the first N.
      num_classes: not used; the encoder predicts no classes.
      dtype: dtype of the computation.

    Raises:
      InputError: the folder does not contain a supported encoder, or a package is not installed.
    """
    del num_classes
    return Sentence(huggingface.encoder_config(argument, "sentence"), dtype)
