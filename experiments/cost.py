"""What a network costs: its size, and the time that it takes for an example."""

import dataclasses
import time
from statistics import median
from typing import Any

import jax
import numpy as np

from akd_jax.data import Batches, Examples
from akd_jax.models.network import Model, Network, count_parameters
from akd_jax.runs import Plan
from akd_jax.runs.examples import keep_inputs

BATCH_SIZES = (1, 32)
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
    count = min(len(examples), _BATCHES * batch_size)
    measured = examples.take(np.linspace(0, len(examples) - 1, count).astype(int))
    batches = Batches(
        keep_inputs(measured, [network], ()), batch_size, buckets=plan.dataset.buckets
    )
    inputs = [jax.device_put(batch.inputs) for batch in batches.epoch()]
    model = jax.device_put(model)

    @jax.jit
    def logits(model: Model, inputs: Any) -> jax.Array:
        return model(inputs).logits

    def run_all() -> float:
        started = time.perf_counter()
        for batch in inputs:
            logits(model, batch).block_until_ready()
        return time.perf_counter() - started

    run_all()  # Compiles a program for each length.
    seconds = median(run_all() for _ in range(_PASSES))
    return 1000 * seconds / (len(inputs) * batch_size)
