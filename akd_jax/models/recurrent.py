"""Recurrent layers, GRU and LSTM, in one direction or in both, for padded sequences."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.models.recurrence import CELLS, State, recur
from akd_jax.types import Array

Cell = Literal["gru", "lstm"]
Merge = Literal["concatenate", "sum"]


class Recurrent(nn.Module):
    """A recurrent layer over the positions of padded sequences.

    With sigma for the logistic function, a GRU computes

        r = sigma(W_r x + U_r h)        z = sigma(W_z x + U_z h)
        n = tanh(W_n x + r * (U_n h))   h' = (1 - z) * n + z * h

    and an LSTM

        i, f, o = sigma(W_i x + U_i h), sigma(W_f x + U_f h), sigma(W_o x + U_o h)
        c' = f * c + i * tanh(W_g x + U_g h)        h' = o * tanh(c')

    with a bias in each sum, and in U_n h. The first state is 0, unless it is given. The backward
    direction starts at the last real position of a sequence, so that its outputs do not depend on
    the padding.

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

    def __call__(self, inputs: Array, lengths: Array) -> jax.Array:
        """Returns the states h of all positions, [B, T, H] or [B, T, 2 H]; 0 at padding.

        Args:
          inputs: the sequences, [B, T, D].
          lengths: the number of real positions of each sequence, int [B].

        Raises:
          ValueError: an attribute has an unknown value.
        """
        return self.run(inputs, lengths)[0]

    @nn.compact
    def run(
        self, inputs: Array, lengths: Array, first: Sequence[State] | None = None
    ) -> tuple[jax.Array, list[State]]:
        """Returns the states of all positions, as `__call__` does, and the last ones.

        Args:
          inputs: the sequences, [B, T, D].
          lengths: the number of real positions of each sequence, int [B].
          first: the first state of each direction, arrays [B, H]: (h,) of a GRU, and (h, c) of an
            LSTM; None for 0.

        Returns:
          The states, and the state of each direction after its last position.

        Raises:
          ValueError: the cell or the way to merge the directions is unknown.
        """
        if self.cell not in CELLS:
            raise ValueError(f"cell: expected 'gru' or 'lstm', got {self.cell!r}")
        if self.merge not in ("concatenate", "sum"):
            raise ValueError(f"merge: expected 'concatenate' or 'sum', got {self.merge!r}")
        inputs = jnp.asarray(inputs, jnp.float32)
        is_real = (jnp.arange(inputs.shape[1]) < jnp.asarray(lengths)[:, None])[..., None]
        if first is None:
            zeros = jnp.zeros((inputs.shape[0], self.width))
            first = [(zeros,) * CELLS[self.cell].state_size] * (1 + self.bidirectional)
        outputs, last = _Direction(self.width, self.cell, name="forward")(inputs, is_real, first[0])
        if not self.bidirectional:
            return jnp.where(is_real, outputs, 0), [last]
        backward = _Direction(self.width, self.cell, reverse=True, name="backward")
        others, other_last = backward(inputs, is_real, first[1])
        if self.merge == "sum":
            outputs += others
        else:
            outputs = jnp.concatenate([outputs, others], axis=-1)
        return jnp.where(is_real, outputs, 0), [last, other_last]


class _Direction(nn.Module):
    """One direction of a recurrent layer; see `Recurrent`.

    The names of the parameters are those of `flax.linen.GRUCell` and `OptimizedLSTMCell`: `iz` and
    `hz` for W_z and U_z.
    """

    width: int
    cell: Cell
    reverse: bool = False

    @nn.compact
    def __call__(
        self, inputs: jax.Array, is_real: jax.Array, first: State
    ) -> tuple[jax.Array, State]:
        """Returns the states, [B, T, H], and the last one.

        Args:
          inputs: the sequences, [B, T, D].
          is_real: whether a position is real, bool [B, T, 1].
          first: the first state.
        """
        cell = CELLS[self.cell]
        inputs, is_real = jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(is_real, 0, 1)
        # All products with the inputs are computed before the loop, where they are large.
        products = [
            nn.Dense(self.width, use_bias=gate in cell.input_biases, name=f"i{gate}")(inputs)
            for gate in cell.gates
        ]
        of_state = [
            _StateProduct(self.width, gate in cell.state_biases, name=f"h{gate}")()
            for gate in cell.gates
        ]
        kernels, biases = zip(*of_state, strict=True)
        states, last = recur(
            cell, self.reverse, products, list(kernels), list(biases), is_real, first
        )
        return jnp.swapaxes(states, 0, 1), last


class _StateProduct(nn.Module):
    """The parameters of a product with the state."""

    width: int
    use_bias: bool

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """Returns the kernel, [H, H], and the bias, [H], which is 0 without `use_bias`."""
        shape = (self.width, self.width)
        kernel = self.param("kernel", nn.initializers.orthogonal(), shape)
        if not self.use_bias:
            return kernel, jnp.zeros(self.width)
        return kernel, self.param("bias", nn.initializers.zeros, (self.width,))
