"""What the devices send each other in a step, and what a pod slice can be expected to do."""

import socket
from typing import Any

from experiments.suites import children

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


# Of a chip: peak in bfloat16, FLOP/s; and what it sends to its neighbours in a ring, bytes/s in
# one direction of one link, as published by Google for each generation.
CHIPS = {"v4": (275e12, 50e9), "v5e": (197e12, 50e9)}
# Of a step: FLOPs of forward and backward for one example, parameters, and the share of the peak
# that such a network reaches on a chip that has enough to do.
RECIPES = {
    "ResNet-110, 32x32 images": {"flops": 3 * 2 * 255e6, "parameters": 1.7e6, "reached": 0.10},
    "BERT-base, 128 tokens": {"flops": 6 * 85e6 * 128, "parameters": 110e6, "reached": 0.40},
}
# Seconds of a ring of n chips that pass on a piece, for each of its 2 (n - 1) pieces.
HOP_SECONDS = 1e-6


def efficiency(recipe: str, chip: str, chips: int, per_chip: int) -> float:
    """The share of a step in which the chips compute, without overlap: t / (t + r).

    t = examples * FLOPs / (peak * reached) on each chip; r, the gradients' all-reduce in float32
    around a ring, 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) hops. Nothing else is counted: no
    host, no other collectives, no stragglers.

    Args:
      recipe: in RECIPES.
      chip: in CHIPS.
      chips: n, of the slice.
      per_chip: examples of a step on each.
    """
    peak, bandwidth = CHIPS[chip]
    found = RECIPES[recipe]
    compute = per_chip * found["flops"] / (peak * found["reached"])
    ring = 2 * (chips - 1)
    reduce = ring / chips * 4 * found["parameters"] / bandwidth + ring * HOP_SECONDS
    return compute / (compute + reduce)


def _model() -> list[str]:
    notes = ["Expected efficiency of a slice, from the gradients' bytes (see `efficiency`):"]
    for recipe, sizes in (
        ("ResNet-110, 32x32 images", (32, 128)),
        ("BERT-base, 128 tokens", (8, 32)),
    ):
        for per_chip in sizes:
            slices = (("v4", 16), ("v5e", 32), ("v5e", 256))
            shown = ", ".join(
                f"{chip} of {chips} chips {efficiency(recipe, chip, chips, per_chip):.0%}"
                for chip, chips in slices
            )
            notes.append(f"{recipe}, {per_chip} a chip: {shown}.")
    return notes
