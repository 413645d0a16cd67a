"""Suite 'recurrent': training steps of recurrent layers and networks, against PyTorch."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from akd_jax.models.birnn import BiRnn
from akd_jax.models.recurrent import Recurrent
from akd_jax.types import SOURCE, TARGET, Tokens, Variables
from experiments.benchmarks import timing
from experiments.benchmarks.losses.series import measure_series
from experiments.benchmarks.shapes import (
    PAIRS_VOCABULARY,
    PAIRS_WIDTH,
    RECURRENT_WIDTH,
    SEQUENCES,
    pairs,
    sequences,
)
from experiments.benchmarks.torch_process import check_installed, torch_process

_LENGTHS = (40, 160)
_CELLS: tuple[Literal["gru", "lstm"], ...] = ("gru", "lstm")
_STUDENT_LENGTH = 40


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of training steps of JAX and PyTorch in turn.

    A step of a layer computes the mean square of the states of all real positions, its gradients
    with respect to parameters and inputs, and an update by SGD with momentum. A step of the student
    for quality estimation computes the squared error of the scores and an update by Adagrad, with
    dropout. PyTorch packs the sequences.

    Raises:
      InputError: PyTorch is not installed.
    """
    check_installed("recurrent", "torch")
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes = [
        f"Batches of {SEQUENCES} sequences of 1 to T positions, padded to T. Inputs and states of a"
        f" direction have the width {RECURRENT_WIDTH}.",
        f"The student, birnn:{PAIRS_VOCABULARY},{PAIRS_WIDTH}x{PAIRS_WIDTH}, reads {SEQUENCES}"
        f" pairs of 1 to {_STUDENT_LENGTH} tokens a side.",
    ]
    steps: dict[str, tuple[str, Callable[[], Any]]] = {
        f"bidirectional {cell.upper()}, T {length}": (
            f"{cell} {length}",
            training_step(cell, length),
        )
        for cell in _CELLS
        for length in _LENGTHS
    }
    name = f"student for quality estimation, T {_STUDENT_LENGTH}"
    steps[name] = (f"student {_STUDENT_LENGTH}", student_step(_STUDENT_LENGTH))
    with torch_process("experiments.benchmarks.recurrent_pytorch") as pytorch:
        for name, (request, step) in steps.items():
            pair = timing.pair(
                measure_series(step, jax.block_until_ready),
                functools.partial(pytorch, request),
                repeats,
            )
            seconds |= {f"{name}, JAX": pair.baseline, f"{name}, PyTorch": pair.variant}
            ratios[f"PyTorch / JAX, {name}"] = pair.ratio
            notes.append(f"{name}: {pair.spread}")
    return {"seconds": seconds, "ratios": ratios, "notes": notes}


def training_step(
    cell: Literal["gru", "lstm"], length: int, variables: Variables | None = None
) -> Callable[[], tuple[jax.Array, jax.Array]]:
    """Returns a function that starts a training step.

    Args:
      cell: the kind of the bidirectional layer.
      length: T, the largest number of positions.
      variables: the initial variables of the layer; None for random ones.

    Returns:
      A function that returns the mean square before the update, and the gradient of the inputs.
    """
    module = Recurrent(RECURRENT_WIDTH, cell, bidirectional=True)
    optimizer = optax.sgd(0.01, momentum=0.9)
    inputs, lengths = (jax.device_put(array) for array in sequences(length))
    if variables is None:
        variables = jax.jit(module.init)(jax.random.key(0), inputs, lengths)

    def loss(variables: Any, inputs: jax.Array) -> jax.Array:
        states: Any = module.apply(variables, inputs, lengths)  # Padding is 0.
        return jnp.square(states).sum() / jnp.float32(states.shape[-1] * lengths.sum())

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        variables, opt_state = state
        value, (gradients, of_inputs) = jax.value_and_grad(loss, (0, 1))(variables, inputs)
        updates, opt_state = optimizer.update(gradients, opt_state, variables)
        return (optax.apply_updates(variables, updates), opt_state), (value, of_inputs)

    return _repeated(update, (jax.tree.map(jnp.array, variables), optimizer.init(variables)))


def student_step(length: int) -> Callable[[], jax.Array]:
    """Returns a function that starts a training step of the student and returns its loss.

    Args:
      length: L, the largest number of tokens of a text.
    """
    module = BiRnn(PAIRS_VOCABULARY, PAIRS_WIDTH, PAIRS_WIDTH)
    optimizer = optax.adagrad(0.001)
    sides, scores = jax.device_put(pairs(length))
    texts = {
        name: Tokens(ids, jnp.zeros_like(ids), lengths)
        for name, (ids, lengths) in zip((SOURCE, TARGET), sides, strict=True)
    }

    def loss(variables: Any, key: jax.Array) -> jax.Array:
        outputs: Any = module.apply(variables, texts, train=True, rngs={"dropout": key})
        return jnp.square(outputs.logits[:, 0] - scores).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: Any) -> tuple[Any, jax.Array]:
        variables, opt_state, key = state
        key, dropout = jax.random.split(key)
        value, gradients = jax.value_and_grad(loss)(variables, dropout)
        updates, opt_state = optimizer.update(gradients, opt_state, variables)
        return (optax.apply_updates(variables, updates), opt_state, key), value

    variables = jax.jit(module.init)(jax.random.key(0), texts)
    return _repeated(update, (variables, optimizer.init(variables), jax.random.key(1)))


def _repeated(update: Callable[[Any], tuple[Any, Any]], state: Any) -> Callable[[], Any]:
    """Returns a function that updates a state in place and returns the other result."""

    def step() -> Any:
        nonlocal state
        state, result = update(state)
        return result

    return step
