"""Bidirectional recurrent networks that score a translation."""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import classifier
from akd_jax.models.recurrent import Recurrent
from akd_jax.types import SOURCE, TARGET, Outputs, Tokens

_SIZE = "([1-9][0-9]{0,6})"
_SPECIFICATION = re.compile(f"{_SIZE},{_SIZE}x{_SIZE}")


class BiRnn(nn.Module):
    """The student of Gajbhiye et al.: a pair of texts, each read by a bidirectional GRU.

    Each side has its own embeddings and GRU. With h_t for the 2 H states of position t after
    dropout, g_t = W h_t + b, and a learned context vector c, a side becomes the vector

        v = sum_t a_t g_t,    a = softmax_t(c . g_t)

    over its real positions. The score is sigma(w . [v_source; v_target] + b), between 0 and 1. In
    the authors' code, padding takes part in the softmax, and a score depends on its batch. Here it
    does not.

    Source: Gajbhiye, Fomicheva, Alva-Manchego, Blain, Obamuyide, Aletras and Specia, "Knowledge
    Distillation for Quality Estimation", Findings of ACL 2021, https://arxiv.org/abs/2107.00411.

    Attributes:
      vocabulary_size: number of rows of each of the two embedding tables.
      embedding: E, the width of an embedding.
      width: H, the width of the state of one direction.
      dropout: the dropout rate of the states.
      dtype: dtype of the embeddings and of the attention; the GRU and the score are float32.
    """

    vocabulary_size: int
    embedding: int = 50
    width: int = 50
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, texts: Mapping[str, Tokens], *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps pairs to scores [B, 1] and features.

        The features are 'source' and 'target' [B, 2 H], the vectors of the two sides; and 'pooled'
        [B, 4 H], both in a row. All are float32.

        Args:
          texts: the tokens [B, L] of the sources and of the targets, by `SOURCE` and `TARGET`.
          train: whether dropout is active.
          axis_name: ignored, because the network uses no statistics of the batch.
        """
        del axis_name
        sizes = (self.vocabulary_size, self.embedding, self.width)
        vectors = {
            side: _Side(*sizes, self.dropout, self.dtype, name=side)(texts[side], train=train)
            for side in (SOURCE, TARGET)
        }
        pooled = jnp.concatenate(list(vectors.values()), axis=-1)
        scores = nn.sigmoid(classifier(1, name="classifier")(pooled))
        return Outputs(scores, {**vectors, "pooled": pooled})


class _Side(nn.Module):
    """One side of a pair: from tokens to a vector; see `BiRnn` for the attributes."""

    vocabulary_size: int
    embedding: int
    width: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Tokens, *, train: bool) -> jax.Array:
        """Maps tokens [B, L] to a vector [B, 2 H] in float32."""
        embed = nn.Embed(self.vocabulary_size, self.embedding, dtype=self.dtype, name="embedding")
        states = Recurrent(self.width, "gru", bidirectional=True, name="gru")(
            embed(jnp.asarray(tokens.ids)), tokens.lengths
        )
        states = nn.Dropout(self.dropout, deterministic=not train)(states)
        projected = nn.Dense(2 * self.width, dtype=self.dtype, name="projection")(states)
        projected = projected.astype(jnp.float32)
        # Xavier's bounds for a vector, which is a matrix with one column.
        context = self.param("context", nn.initializers.xavier_uniform(), (2 * self.width, 1))
        logits = jnp.where(tokens.mask, (projected @ context)[..., 0], jnp.finfo(jnp.float32).min)
        attention = jax.nn.softmax(logits)
        return jnp.einsum("bl,bld->bd", attention, projected)


def build(argument: str, num_classes: int, dtype: Any) -> BiRnn:
    """Builds a network for pairs of texts and one number.

    Args:
      argument: 'VOCABULARY,EMBEDDINGxWIDTH', such as '8000,50x50', with the largest number of
        tokens of a vocabulary.
      num_classes: 1, for a regression.
      dtype: dtype of the computation.

    Raises:
      InputError: the argument has another form, or the task is no regression.
    """
    match = _SPECIFICATION.fullmatch(argument)
    if match is None:
        raise InputError(
            "expected birnn:VOCABULARY,EMBEDDINGxWIDTH with numbers from 1 to 9999999, got"
            f" 'birnn:{argument}'; write it as in birnn:8000,50x50"
        )
    if num_classes != 1:
        raise InputError(
            f"birnn:{argument}: expected a task with a number to predict, got one with"
            f" {num_classes} classes; choose another network"
        )
    vocabulary, embedding, width = map(int, match.groups())
    return BiRnn(vocabulary, embedding, width, dtype=dtype)
