"""Text of tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def percent(score: float | None) -> str:
    """Returns a score in percent, or '-' for a score that is None or not finite."""
    return f"{score:.2%}" if score is not None and math.isfinite(score) else "-"


def network_scores(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the scores of the teachers and of the student in results.json, by name."""
    return {
        name: value
        for name, value in results.items()
        if isinstance(value, Mapping) and {"validation", "test"} <= value.keys()
        # The number of truncated texts has the splits as keys, too.
        if name != "truncated"
    }


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table with padded cells, so that it is also readable in a terminal.

    The first column is aligned to the left, and all others to the right.
    """
    # Markdown marks a right-aligned column with '-:', which needs two characters.
    widths = [max(2, *map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        aligned = [first.ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return "| " + " | ".join(aligned) + " |"

    separator = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(headers), line(separator), *map(line, rows)])
