"""Suite 'losses': the time of each loss and its gradient, against the same loss in PyTorch."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from experiments.benchmarks import timing
from experiments.benchmarks.losses.case import LossCase
from experiments.benchmarks.losses.cases import CASES

_SECONDS = 0.02  # The length of a measurement, at least.


def measure(repeats: int) -> dict[str, Any]:
    """Measures forward and backward passes of all cases on the default device.

    A measurement is a series of calls of at least 20 ms. JAX runs compiled programs, and PyTorch
    its operations one by one, as its users write losses.
    """
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    rows = []
    for case in CASES:
        name, inputs = f"{case.name} {case.size}".strip(), case.inputs()
        steps = {"PyTorch": torch_step(case, inputs), "JAX": jax_step(case, inputs)}
        first, second = (_series(step) for step in steps.values())
        pair = timing.pair(first, second, repeats)
        seconds |= {f"{name}, PyTorch": pair.baseline, f"{name}, JAX": pair.variant}
        ratios[name] = pair.ratio
        rows.append(
            (
                name,
                f"{1000 * pair.baseline:.3f}",
                f"{1000 * pair.variant:.3f}",
                f"{pair.ratio:.2f}",
                f"{pair.ratios[0]:.2f} to {pair.ratios[-1]:.2f}",
            )
        )
    headers = ("loss", "PyTorch ms", "JAX ms", "JAX / PyTorch", "range of the pairs")
    slower = [name for name, ratio in ratios.items() if ratio > 1.2]
    notes = [f"More than 1.2 times PyTorch's time: {', '.join(slower) or 'none'}."]
    return {
        "seconds": {},
        "ratios": {},
        "values": {"seconds": seconds, "ratios": ratios},
        "table": {"headers": headers, "rows": rows},
        "notes": notes,
    }


def jax_step(case: LossCase, inputs: Mapping[str, Any]) -> Callable[[], Any]:
    """Returns a function that starts a forward and backward pass in JAX."""

    def mean(student: Mapping[str, Any], others: Mapping[str, Any]) -> jax.Array:
        return jnp.mean(case.jax(**student, **others))

    run = jax.jit(jax.value_and_grad(mean))
    student, others = (jax.device_put(part) for part in _split(inputs))
    return lambda: run(student, others)


def torch_step(case: LossCase, inputs: Mapping[str, Any]) -> Callable[[], Any]:
    """Returns a function that runs a forward and backward pass in PyTorch."""
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    student, others = (
        jax.tree.map(lambda array: torch.tensor(array, device=device), part)
        for part in _split(inputs)
    )
    leaves = jax.tree.leaves(student)
    for leaf in leaves:
        leaf.requires_grad_()

    def step() -> Any:
        return torch.autograd.grad(case.torch(**student, **others), leaves, allow_unused=True)

    return step


def _split(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the inputs that get a gradient, and the others."""
    student = {name: x for name, x in inputs.items() if name.startswith("student")}
    return student, {name: x for name, x in inputs.items() if name not in student}


def _series(step: Callable[[], Any]) -> timing.Measurement:
    """Returns a measurement of the seconds of a step, as the mean of a series."""
    _wait(step())  # Compiles.
    started = time.perf_counter()
    _wait(step())
    count = math.ceil(_SECONDS / (time.perf_counter() - started))

    def series() -> None:
        for _ in range(count):
            result = step()
        _wait(result)

    return timing.timed(series, count)


def _wait(result: Any) -> None:
    if isinstance(result, tuple) and any(isinstance(x, torch.Tensor) for x in result):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    else:
        jax.block_until_ready(result)
