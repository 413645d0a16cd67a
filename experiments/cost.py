"""What a network costs: its size, and the time that it takes for an example."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import jax
import numpy as np

from akd_jax.data import Batches, Examples
from akd_jax.models.network import Model, Network, count_parameters
from akd_jax.runs import Plan
from akd_jax.runs.examples import keep_inputs
from akd_jax.training.generation import Writing, generate, greedy, written_lengths

BATCH_SIZES = (1, 64)
_BATCHES = 32  # Number of batches of a pass.
_PASSES = 5  # The median counts.


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a network.

    Attributes:
      parameters: the number of trained parameters.
      bytes: the size of all variables as they are saved, without compression.
    """

    parameters: int
    bytes: int

    @classmethod
    def of(cls, model: Model) -> "Size":
        """Returns the size of a model."""
        parameters = count_parameters(model.variables)
        return cls(parameters, sum(leaf.nbytes for leaf in jax.tree.leaves(model.variables)))


def milliseconds_per_example(
    plan: Plan, network: Network, model: Model, examples: Examples, batch_size: int
) -> float:
    """Measures the time of a network for an example, on one device, without tokenisation.

    Args:
      plan: the plan of the run, for the padded lengths of texts.
      network: the network.
      model: the network with its variables.
      examples: the examples; those that are measured are spread over all of them. Batches hold
        texts of similar lengths, as in an evaluation.
      batch_size: number of examples that are computed at once.
    """
    inputs = _inputs(plan, network, examples, batch_size)
    seconds, _ = _measure(model, inputs, lambda model, inputs: model(inputs).logits)
    return 1000 * seconds / (len(inputs) * batch_size)


def multiply_adds(plan: Plan, network: Network, model: Model, examples: Examples) -> float:
    """Returns the number of multiplications with an addition that a network needs for an example.

    It is half of the floating-point operations that XLA counts in the compiled program for one
    example of the largest padded length, and so an upper bound for shorter texts.

    Args:
      plan: the plan of the run, for the padded lengths of texts.
      network: the network.
      model: the network with its variables.
      examples: some examples.
    """
    batches = Batches(
        keep_inputs(examples.take(np.arange(1)), [network], ()),
        1,
        buckets=plan.dataset.buckets[-1:],
    )
    inputs = next(batches.epoch()).inputs
    program = jax.jit(lambda model, inputs: model(inputs).logits).lower(model, inputs).compile()
    return float((program.cost_analysis() or {}).get("flops", math.nan)) / 2


def tokens_per_second(
    plan: Plan, network: Network, model: Model, examples: Examples, batch_size: int
) -> float:
    """Measures how many tokens a network generates in a second, on one device.

    It decodes greedily. The end tokens count, and padding does not. The arguments are those of
    `milliseconds_per_example`.
    """
    target, length = plan.dataset.task.target, plan.settings.dataset.max_length
    assert target is not None, "expected a task of generating texts"
    writing = Writing.of(target, length)

    def write(model: Model, inputs: Any) -> jax.Array:
        return generate(model, inputs, length, functools.partial(greedy, writing=writing))

    seconds, texts = _measure(model, _inputs(plan, network, examples, batch_size), write)
    words = sum(int(written_lengths(text, writing).sum()) for text in texts)
    ends = sum(int((text == target.end).sum()) for text in texts)
    return (words + ends) / seconds


def _inputs(plan: Plan, network: Network, examples: Examples, batch_size: int) -> list[Any]:
    """Returns the inputs of the batches that are measured, on the device."""
    count = min(len(examples), _BATCHES * batch_size)
    measured = examples.take(np.linspace(0, len(examples) - 1, count).astype(int))
    batches = Batches(
        keep_inputs(measured, [network], ()), batch_size, buckets=plan.dataset.buckets
    )
    return [jax.device_put(batch.inputs) for batch in batches.epoch()]


def _measure(
    model: Model, inputs: Sequence[Any], function: Callable[[Model, Any], jax.Array]
) -> tuple[float, list[np.ndarray]]:
    """Returns the median time of a pass over all inputs in seconds, and the results."""
    model, compiled = jax.device_put(model), jax.jit(function)

    def run_all() -> float:
        started = time.perf_counter()
        for batch in inputs:
            compiled(model, batch).block_until_ready()
        return time.perf_counter() - started

    results = [np.asarray(compiled(model, batch)) for batch in inputs]  # Compiles each length.
    return median(run_all() for _ in range(_PASSES)), results
