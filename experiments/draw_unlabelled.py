"""Draws a score over the number of unlabelled examples, from a finished comparison.

python -m experiments.draw_unlabelled --workdir=DIR --output=docs/quality.png

Rows whose names differ only in the number at their end, such as kd, kd_6000 and kd_12000, are one
line. Rows that occur with one number only are horizontal lines, as is the teacher.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from akd_jax.host import records
from akd_jax.host.errors import InputError
from experiments import cli, html_report, options, pictures

_WORKDIR = options.workdir_flag()
_OUTPUT = options.output_flag()
_TITLE = options.title_flag()

_NUMBERED = re.compile(r"(.+?)_([0-9]+)")


def draw(comparison: Mapping[str, Any], title: str) -> Figure:
    """Draws the test scores of a comparison's rows, with the standard deviation over the seeds.

    Args:
      comparison: the contents of comparison.json.
      title: the title.

    Raises:
      InputError: no two rows differ in their number of unlabelled examples.
    """
    families: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row, entry in comparison["methods"].items():
        match = _NUMBERED.fullmatch(row)
        name, size = (match[1], int(match[2])) if match else (row, 0)
        families[name][size] = entry["test"]
    lines = {name: rows for name, rows in families.items() if len(rows) > 1}
    if not lines:
        raise InputError(
            "--workdir: expected a comparison with rows such as kd and kd_6000, got"
            f" {', '.join(comparison['methods'])}; compare such rows"
        )
    figure, axes = pictures.new_axes()
    for number, (name, rows) in enumerate(lines.items()):
        sizes = sorted(rows)
        axes.errorbar(
            sizes,
            [rows[size]["mean"] for size in sizes],
            [rows[size]["std"] or 0 for size in sizes],
            color=f"C{number}",
            marker="o",
            capsize=3,
            label=name,
        )
    levels = {
        name: rows[0]["mean"] for name, rows in families.items() if len(rows) == 1 and 0 in rows
    }
    levels |= {name: teacher["test"] for name, teacher in comparison["teachers"].items()}
    for number, (name, level) in enumerate(levels.items(), start=len(lines)):
        axes.axhline(level, color=f"C{number}", linestyle="--", label=name)
    axes.set_xlabel("unlabelled examples")
    axes.set_ylabel(f"test {comparison['metric']}")
    axes.set_title(title)
    pictures.add_legend(figure)
    return figure


def main() -> None:
    """Draws the picture and writes it."""
    workdir = options.path(_WORKDIR)
    comparison = records.read(workdir / html_report.COMPARISON)
    if comparison is None:
        raise InputError(
            f"--workdir: expected a finished comparison, got none in {workdir}; run"
            " experiments.compare first"
        )
    pictures.save(draw(comparison, _TITLE.value or ""), options.path(_OUTPUT))


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "output"])
