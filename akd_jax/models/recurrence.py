"""The loop of a recurrent layer over the positions of sequences.

Three things make it fast on CPUs. The gates are separate arrays, because XLA does not vectorise
elementwise functions of slices. The derivatives of the elementwise functions are computed for all
positions at once. The gradients of the kernels are also computed in one product, and not summed in
the loop.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Gates = Sequence[jax.Array]  # An array for each gate of a cell.
State = tuple[jax.Array, ...]  # Arrays [B, H]; the first is the output.


@dataclasses.dataclass(frozen=True)
class Cell:
    """A recurrent cell.

    Attributes:
      step: returns the next state from W x of the gates, U h of the gates, and the state. Each has
        the bias that the cell adds to it. The step is elementwise.
      gates: the names of the gates, a letter each.
      state_size: number of arrays of the state.
      input_biases: the gates with a bias next to W x.
      state_biases: the gates with a bias next to U h.
    """

    step: Callable[[Gates, Gates, State], State]
    gates: str
    state_size: int
    input_biases: str
    state_biases: str


def _gru(inputs: Gates, products: Gates, state: State) -> State:
    """Returns the next state (h,) of a GRU; `Recurrent` has the equations."""
    (h,) = state
    r, z = (jax.nn.sigmoid(inputs[gate] + products[gate]) for gate in (0, 1))
    n = jnp.tanh(inputs[2] + r * products[2])
    return ((1 - z) * n + z * h,)


def _lstm(inputs: Gates, products: Gates, state: State) -> State:
    """Returns the next state (h, c) of an LSTM; `Recurrent` has the equations."""
    _, c = state
    i, f, g, o = (a + b for a, b in zip(inputs, products, strict=True))
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


CELLS = {
    "gru": Cell(_gru, "rzn", state_size=1, input_biases="rzn", state_biases="n"),
    "lstm": Cell(_lstm, "ifgo", state_size=2, input_biases="", state_biases="ifgo"),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def recur(
    cell: Cell,
    reverse: bool,
    inputs: Gates,
    kernels: Gates,
    biases: Gates,
    is_real: jax.Array,
    first: State,
) -> tuple[jax.Array, State]:
    """Returns the outputs of a cell at all positions, [T, B, H], and its last state.

    Args:
      cell: the cell.
      reverse: whether the loop runs from the last position to the first.
      inputs: W x of each gate, [T, B, H].
      kernels: U of each gate, [H, H].
      biases: the bias next to U h of each gate, [H].
      is_real: whether a position is real, bool [T, B, 1]. Padding does not change the state.
      first: the first state, arrays [B, H].
    """
    return _forward(cell, reverse, inputs, kernels, biases, is_real, first)[0]


def _forward(
    cell: Cell,
    reverse: bool,
    inputs: Gates,
    kernels: Gates,
    biases: Gates,
    is_real: jax.Array,
    first: State,
) -> tuple[tuple[jax.Array, State], tuple[Gates, Gates, jax.Array, Gates, State]]:
    """Returns the outputs and the last state, and what `_backward` needs."""

    def body(state: State, position: tuple[Gates, jax.Array]) -> tuple[State, tuple[Gates, State]]:
        inputs, is_real = position
        products = [state[0] @ kernel + b for kernel, b in zip(kernels, biases, strict=True)]
        return _masked_step(cell, is_real, inputs, products, state), (products, state)

    last, (products, states) = jax.lax.scan(body, first, (inputs, is_real), reverse=reverse)
    # The loop stores the state before each position; the outputs are those after it.
    h = states[0]
    parts = (last[0][None], h[:-1]) if reverse else (h[1:], last[0][None])
    return (jnp.concatenate(parts), last), (inputs, kernels, is_real, products, states)


def _backward(
    cell: Cell,
    reverse: bool,
    residuals: tuple[Gates, Gates, jax.Array, Gates, State],
    gradients: tuple[jax.Array, State],
) -> tuple[Gates, Gates, Gates, None, State]:
    """Returns the gradients of the inputs, kernels, biases and the first state."""
    inputs, kernels, is_real, products, states = residuals
    gradient, of_last = gradients
    # A step is elementwise: its derivative is an array for each pair of an output and an argument.
    _, pull = jax.vjp(functools.partial(_masked_step, cell, is_real), inputs, products, states)
    one, zero = jnp.ones_like(gradient), jnp.zeros_like(gradient)
    outputs = range(cell.state_size)
    derivatives = [pull(tuple(one if i == k else zero for i in outputs)) for k in outputs]
    by_inputs, by_products, by_states = zip(*derivatives, strict=True)

    def body(later: State, position: tuple[jax.Array, Any, Any]) -> tuple[State, State]:
        gradient, by_products, by_states = position
        new = (later[0] + gradient, *later[1:])
        d_h, *others = _pull(by_states, new)
        for d, kernel in zip(_pull(by_products, new), kernels, strict=True):
            d_h += d @ kernel.T
        return (d_h, *others), new

    positions = (gradient, by_products, by_states)
    d_first, d_states = jax.lax.scan(body, of_last, positions, reverse=not reverse)
    d_products = _pull(by_products, d_states)
    d_kernels = [jnp.einsum("tbi,tbo->io", states[0], d) for d in d_products]
    d_biases = [d.sum((0, 1)) for d in d_products]
    return _pull(by_inputs, d_states), d_kernels, d_biases, None, d_first


def _pull(derivatives: Sequence[Sequence[jax.Array]], gradients: State) -> list[jax.Array]:
    """Returns the gradients of arguments from those of outputs, all elementwise."""
    pairs = zip(derivatives, gradients, strict=True)
    products = [[derivative * d for derivative in of_output] for of_output, d in pairs]
    return [sum(terms) for terms in zip(*products, strict=True)]


def _masked_step(
    cell: Cell, is_real: jax.Array, inputs: Gates, products: Gates, state: State
) -> State:
    """Returns the next state, which is the state itself at padding."""
    new = cell.step(inputs, products, state)
    return tuple(jnp.where(is_real, a, b) for a, b in zip(new, state, strict=True))


recur.defvjp(_forward, _backward)
