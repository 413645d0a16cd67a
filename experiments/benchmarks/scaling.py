"""Suite 'scaling': the bytes that the devices exchange in a step, and the expected efficiency."""

import dataclasses
import socket
from typing import Any

from experiments.benchmarks import children

_SPECS = ("resnet:8", "resnet:110")
_PROCESSES = (1, 2, 4)


def measure(repeats: int) -> dict[str, Any]:
    """Compares the bytes of a step's collectives with the bytes of its gradients.

    The bytes are read from the compiled programs of 1, 2 and 4 processes of one device each. The
    notes hold the `efficiency` of two recipes on pod slices.
    """
    del repeats  # Nothing is timed.
    rows = []
    ratios: dict[str, float] = {}
    for spec in _SPECS:
        for count in _PROCESSES:
            program = _first_process(spec, count)
            names = sorted({name for name, _ in program["collectives"]})
            total = sum(size for _, size in program["collectives"])
            largest = max((size for _, size in program["collectives"]), default=0)
            rows.append(
                [
                    f"{spec}, {count} processes",
                    f"{program['parameters']:,}",
                    f"{total:,}",
                    f"{largest:,}",
                    str(len(program["collectives"])),
                    ", ".join(names) or "none",
                ]
            )
            if count > 1:
                ratio = total / program["parameters"]
                ratios[f"{spec}, {count} processes: collectives / gradients, bytes"] = ratio
    headers = ["", "gradients", "collectives", "largest", "number", "kinds"]
    return {
        "seconds": {},
        "ratios": ratios,
        "table": {"headers": headers, "rows": rows},
        "notes": _efficiency_notes(),
    }


def _first_process(spec: str, count: int) -> dict[str, Any]:
    """Runs `children.collective_bytes` in several processes; returns the first one's result."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        children.start("collective_bytes", spec, process_id, count, port, **environment)
        for process_id in range(count)
    ]
    first, *_ = [children.result(child) for child in started]  # Waits for all of them.
    return first


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice.

    Attributes:
      name: accelerator type.
      chips: number of chips, n.
      peak: peak of one chip in bfloat16, FLOP/s.
      bandwidth: bandwidth of one link to a neighbour, in one direction, bytes/s.
      diameter: number of links between the two most distant chips.
    """

    name: str
    chips: int
    peak: float
    bandwidth: float
    diameter: int


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The work of a training step.

    Attributes:
      name: shown in the table.
      flops: FLOPs of the forward and backward pass of one example.
      parameters: number of the student's parameters.
      small: number of sequential collectives of a few numbers, such as batch norm statistics.
      reached: assumed share of a chip's peak that this network reaches.
      per_chip: batch sizes per chip.
    """

    name: str
    flops: float
    parameters: float
    small: int
    reached: float
    per_chip: tuple[int, ...]


# Peaks and bandwidths as published by Google. v4-32 is a torus of 2 x 2 x 4 chips, v5litepod-32 a
# mesh of 4 x 8, and v5litepod-256 a torus of 16 x 16.
SLICES = (
    Slice("v4-32", 16, 275e12, 50e9, 4),
    Slice("v5litepod-32", 32, 197e12, 50e9, 10),
    Slice("v5litepod-256", 256, 197e12, 50e9, 16),
)
RECIPES = (
    Recipe("ResNet-110, 32x32 images", 3 * 2 * 255e6, 1.73e6, 218, 0.10, (32, 128)),
    Recipe("BERT-base, 128 tokens", 6 * 85e6 * 128, 110e6, 1, 0.40, (8, 32)),
)
_HOP_SECONDS = 1e-6


def efficiency(recipe: Recipe, slice_: Slice, per_chip: int) -> float:
    """Estimates the share of a step in which the chips compute, t / (t + r + s).

    - t = examples * FLOPs / (peak * reached): computation on each chip.
    - r = 2 (n - 1) / n * bytes / bandwidth: all-reduce of the float32 gradients around a ring.
    - s = (small + 1) * 2 * diameter * 1 microsecond: latency of the collectives. Each one travels
      to the most distant chip and back, at one microsecond per link.

    The estimate assumes that communication does not overlap with computation, and neglects the
    host and stragglers. A compiler that overlaps r with the backward pass does better.
    """
    compute = per_chip * recipe.flops / (slice_.peak * recipe.reached)
    reduce = 2 * (slice_.chips - 1) / slice_.chips * 4 * recipe.parameters / slice_.bandwidth
    latency = 0.0
    if slice_.chips > 1:
        latency = (recipe.small + 1) * 2 * slice_.diameter * _HOP_SECONDS
    return compute / (compute + reduce + latency)


def _efficiency_notes() -> list[str]:
    """Returns one sentence for each recipe and batch size."""
    return ["Expected efficiency of a slice, by the arithmetic of `efficiency`:"] + [
        f"{recipe.name}, {per_chip} a chip: "
        + ", ".join(
            f"{slice_.name} {efficiency(recipe, slice_, per_chip):.0%}" for slice_ in SLICES
        )
        + "."
        for recipe in RECIPES
        for per_chip in recipe.per_chip
    ]
