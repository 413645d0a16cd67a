"""What a compiled program says of itself."""

import math
import re
from collections.abc import Iterator
from typing import Any

_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
_ARRAY = re.compile(r"(pred|[a-z]+[0-9]+)\[([0-9,]*)\]")


def collectives(program: Any) -> Iterator[tuple[str, list[int]]]:
    """The collectives of a compiled program: the name of each, and the bytes of its arrays."""
    for line in program.as_text().splitlines():
        if match := _COLLECTIVE.search(line):
            yield match[2], [_bytes(kind, shape) for kind, shape in _ARRAY.findall(match[1])]


def _bytes(kind: str, shape: str) -> int:
    bits = int(re.sub("[a-z]+", "", kind) or 8)  # A pred takes a byte.
    return bits // 8 * math.prod(int(size) for size in shape.split(",") if size)
