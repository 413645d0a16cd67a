"""Measures the losses in PyTorch, in a separate process.

`python -m experiments.benchmarks.losses.pytorch DEVICE` reads numbers of cases from standard input,
one per line, and answers each with the seconds of a forward and backward pass on 'cpu' or 'cuda'.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import torch

from experiments.benchmarks.losses.case import LossCase, split_inputs
from experiments.benchmarks.losses.cases import CASES
from experiments.benchmarks.losses.series import measure_series
from experiments.benchmarks.timing import Measurement


def torch_step(
    case: LossCase, inputs: Mapping[str, Any], device: str = "cpu"
) -> Callable[[], tuple[Any, ...]]:
    """Returns a function that runs a forward and backward pass and returns value and gradients.

    The gradients are those of the leaves of the student's inputs; None where there is none.
    """
    student, others = (
        jax.tree.map(lambda array: torch.tensor(array, device=device), part)
        for part in split_inputs(inputs)
    )
    leaves = jax.tree.leaves(student)
    for leaf in leaves:
        leaf.requires_grad_()

    def step() -> tuple[Any, ...]:
        value = case.torch(**student, **others)
        return value, *torch.autograd.grad(value, leaves, allow_unused=True)

    return step


def main() -> None:
    """Answers requests with seconds."""
    jax.config.update("jax_platforms", "cpu")  # JAX only makes inputs, and leaves a GPU free.
    (device,) = sys.argv[1:]

    @functools.lru_cache(maxsize=1)
    def measurement(number: int) -> Measurement:
        case = CASES[number]
        step = torch_step(case, case.inputs(), device)
        return measure_series(
            step, lambda _: torch.cuda.synchronize() if device == "cuda" else None
        )

    for line in sys.stdin:
        print(measurement(int(line))(), flush=True)


if __name__ == "__main__":
    main()
