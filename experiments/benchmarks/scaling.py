"""What the devices send each other in a step, and what a pod slice can be expected to do."""

import dataclasses
import socket
from typing import Any

from experiments.benchmarks import children

_SPECS = ("resnet:8", "resnet:110")
_PROCESSES = (1, 2, 4)


def measure(repeats: int) -> dict[str, Any]:
    """Bytes of a step's collectives, from the compiled programs of 1, 2 and 4 processes of one
    device each, against the gradients' bytes; and `efficiency` for two recipes on pod slices.
    """
    del repeats  # Nothing is timed.
    rows = []
    ratios: dict[str, float] = {}
    for spec in _SPECS:
        for count in _PROCESSES:
            found = _collectives(spec, count)
            names = sorted({name for name, _ in found["collectives"]})
            total = sum(size for _, size in found["collectives"])
            largest = max((size for _, size in found["collectives"]), default=0)
            rows.append(
                [
                    f"{spec}, {count} processes",
                    f"{found['parameters']:,}",
                    f"{total:,}",
                    f"{largest:,}",
                    str(len(found["collectives"])),
                    ", ".join(names) or "none",
                ]
            )
            if count > 1:
                ratio = total / found["parameters"]
                ratios[f"{spec}, {count} processes: collectives / gradients, bytes"] = ratio
    headers = ["", "gradients", "collectives", "largest", "number", "kinds"]
    return {"seconds": {}, "ratios": ratios, "table": {"headers": headers, "rows": rows}} | {
        "notes": _model()
    }


def _collectives(spec: str, count: int) -> dict[str, Any]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        children.start("collective_bytes", spec, number, count, port, **environment)
        for number in range(count)
    ]
    found = [children.result(child) for child in started]
    return found[0]


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice.

    Attributes:
      name: its type.
      chips: n.
      peak: FLOP/s of a chip in bfloat16.
      bandwidth: bytes/s of one link to a neighbour, in one direction.
      diameter: links between the two chips that are farthest apart.
    """

    name: str
    chips: int
    peak: float
    bandwidth: float
    diameter: int


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step computes.

    Attributes:
      name: of it.
      flops: of forward and backward pass for one example.
      parameters: of the student.
      small: collectives of a few numbers, such as batch norm's statistics, one after the other.
      reached: the share of a chip's peak that such a network reaches; assumed.
      per_chip: examples of a step on each chip.
    """

    name: str
    flops: float
    parameters: float
    small: int
    reached: float
    per_chip: tuple[int, ...]


# Peaks and links as Google publishes them; v4-32 is a torus of 2 x 2 x 4 chips, v5litepod-32 a
# mesh of 4 x 8, v5litepod-256 a torus of 16 x 16.
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


def efficiency(recipe: Recipe, on: Slice, per_chip: int) -> float:
    """The share of a step in which the chips compute, t / (t + r + s), with no overlap.

    t = examples * FLOPs / (peak * reached) on each chip; r, the gradients' all-reduce in float32
    around a ring, 2 (n - 1) / n * bytes / bandwidth; s, for each of the small collectives and that
    one, the way to the farthest chip and back, a microsecond a link. Nothing else is counted: no
    host, no stragglers; a compiler that overlaps r with the backward pass does better.
    """
    compute = per_chip * recipe.flops / (on.peak * recipe.reached)
    reduce = 2 * (on.chips - 1) / on.chips * 4 * recipe.parameters / on.bandwidth
    ways = (recipe.small + 1) * 2 * on.diameter * _HOP_SECONDS if on.chips > 1 else 0.0
    return compute / (compute + reduce + ways)


def _model() -> list[str]:
    return ["Expected efficiency of a slice, by the arithmetic of `efficiency`:"] + [
        f"{recipe.name}, {per_chip} a chip: "
        + ", ".join(f"{on.name} {efficiency(recipe, on, per_chip):.0%}" for on in SLICES)
        + "."
        for recipe in RECIPES
        for per_chip in recipe.per_chip
    ]
