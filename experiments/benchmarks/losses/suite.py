"""Suite 'losses': the time of each loss and its gradient, against the same loss in PyTorch."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import timing
from experiments.benchmarks.losses.case import LossCase, split_inputs
from experiments.benchmarks.losses.cases import CASES
from experiments.benchmarks.losses.series import measure_series
from experiments.benchmarks.torch_process import torch_process


def measure(repeats: int) -> dict[str, Any]:
    """Measures forward and backward passes of all cases on the default device.

    JAX runs compiled programs, and PyTorch its operations one by one, as its users write losses.
    """
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    rows = []
    with torch_process("experiments.benchmarks.losses.pytorch", device) as pytorch:
        for number, case in enumerate(CASES):
            name = f"{case.name} {case.size}".strip()
            pair = timing.pair(
                functools.partial(pytorch, str(number)),
                measure_series(jax_step(case, case.inputs()), jax.block_until_ready),
                repeats,
            )
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
    student, others = (jax.device_put(part) for part in split_inputs(inputs))
    return lambda: run(student, others)
