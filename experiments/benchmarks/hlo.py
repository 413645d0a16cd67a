"""The collectives of a compiled program, read from its HLO text."""

import math
import re
from collections.abc import Iterator
from typing import Any

_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
_ARRAY = re.compile(r"(pred|[a-z]+[0-9]+)\[([0-9,]*)\]")


def collectives(program: Any) -> Iterator[tuple[str, list[int]]]:
    """Yields the name of each collective of a compiled program, and the bytes of its arrays."""
    for line in program.as_text().splitlines():
        if match := _COLLECTIVE.search(line):
            yield match[2], [_bytes(dtype, shape) for dtype, shape in _ARRAY.findall(match[1])]


def _bytes(dtype: str, shape: str) -> int:
    bits = int(re.sub("[a-z]+", "", dtype) or 8)  # 'pred' has no number; it takes one byte.
    return bits // 8 * math.prod(int(size) for size in shape.split(",") if size)
