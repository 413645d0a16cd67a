"""Recurrent layers, GRU and LSTM, in one direction or in both, for padded sequences."""

from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.types import Array

Cell = Literal["gru", "lstm"]
Merge = Literal["concatenate", "sum"]

_CELLS = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


class Recurrent(nn.Module):
    """A recurrent layer over the positions of padded sequences.

    With sigma for the logistic function, a GRU computes

        r = sigma(W_r x + U_r h)        z = sigma(W_z x + U_z h)
        n = tanh(W_n x + r * (U_n h))   h' = (1 - z) * n + z * h

    and an LSTM

        i, f, o = sigma(W_i x + U_i h), sigma(W_f x + U_f h), sigma(W_o x + U_o h)
        c' = f * c + i * tanh(W_g x + U_g h)        h' = o * tanh(c')

    with a bias in each sum, and in U_n h. The first state is 0. The backward direction starts at
    the last real position of a sequence, so that its outputs do not depend on the padding.

    These are the layers of PyTorch. Their two biases of a sum are one here. The computation is in
    float32, because errors of rounding add up over the positions.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", EMNLP 2014, https://arxiv.org/abs/1406.1078; Hochreiter and Schmidhuber,
    "Long Short-Term Memory", Neural Computation 9(8), 1997.

    Attributes:
      width: H, the width of the state of one direction.
      cell: 'gru' or 'lstm'.
      bidirectional: whether a second layer runs from the last position to the first.
      merge: how the outputs of two directions become one: 'concatenate' to the width 2 H, or 'sum'.
    """

    width: int
    cell: Cell = "gru"
    bidirectional: bool = False
    merge: Merge = "concatenate"

    @nn.compact
    def __call__(self, inputs: Array, lengths: Array) -> jax.Array:
        """Returns the states of all positions, [B, T, H] or [B, T, 2 H]; 0 at padding.

        Args:
          inputs: the sequences, [B, T, D].
          lengths: the number of real positions of each sequence, int [B].

        Raises:
          ValueError: an attribute has an unknown value.
        """
        if self.cell not in _CELLS:
            raise ValueError(f"cell: expected 'gru' or 'lstm', got {self.cell!r}")
        if self.merge not in ("concatenate", "sum"):
            raise ValueError(f"merge: expected 'concatenate' or 'sum', got {self.merge!r}")
        inputs = jnp.asarray(inputs, jnp.float32)
        outputs = self._states("forward", inputs, lengths, backwards=False)
        if self.bidirectional:
            backwards = self._states("backward", inputs, lengths, backwards=True)
            if self.merge == "sum":
                outputs += backwards
            else:
                outputs = jnp.concatenate([outputs, backwards], axis=-1)
        is_real = jnp.arange(inputs.shape[1]) < lengths[:, None]
        return jnp.where(is_real[..., None], outputs, 0)

    def _states(
        self, name: str, inputs: jax.Array, lengths: Array, *, backwards: bool
    ) -> jax.Array:
        """Returns the states of one direction; its parameters are those of the cell `name`."""
        cell = _CELLS[self.cell](self.width, name=name)
        layer = nn.RNN(cell, reverse=backwards, keep_order=backwards)
        return cast(jax.Array, layer(inputs, seq_lengths=lengths))
