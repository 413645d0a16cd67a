r"""Draws the differences of rows to a reference in several comparisons, with their intervals.

python -m experiments.draw_differences --comparisons=FILE,FILE --reference=kd \
    --output=docs/differences.png

Each comparison is one panel. Its title is the name of the file, or that of the folder of a file
comparison.json. A row is a point with the 95 % interval of its difference to the reference. If an
interval contains 0, the difference is not significant.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.host.files import absolute, as_path
from experiments import cli, html_report, options, pictures

_COMPARISONS = flags.DEFINE_list("comparisons", None, "Files comparison.json, separated by commas.")
_REFERENCE = flags.DEFINE_string("reference", "kd", "Row that the others are compared with.")
_OUTPUT = options.output_flag()


def draw(comparisons: Mapping[str, Mapping[str, Any]], reference: str) -> Figure:
    """Draws a panel for each comparison.

    Args:
      comparisons: the contents of comparison.json by title.
      reference: the name of the row that the others are compared with.

    Raises:
      InputError: a comparison does not compare its rows with the reference, or has a score that is
        not finite.
    """
    rows: Sequence[str] = list(
        dict.fromkeys(row for comparison in comparisons.values() for row in comparison["methods"])
    )
    rows = [row for row in rows if row != reference]
    figure = Figure(figsize=(2.2 + 2.3 * len(comparisons), 0.9 + 0.32 * len(rows)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(comparisons), sharey=True, squeeze=False)[0]
    for axes, (title, comparison) in zip(panels, comparisons.items(), strict=True):
        references = comparison.get("references", ())
        if reference not in references:
            raise InputError(
                f"--comparisons: expected {title} to compare its rows with {reference}, got"
                f" comparisons with {', '.join(references) or 'none'}; choose another --reference"
            )
        pictures.set_frame(axes)
        axes.axvline(0, color="0.5", linewidth=1)
        for place, row in enumerate(rows):
            entry = comparison["methods"].get(row)
            if entry is None:
                continue
            if entry["test"]["mean"] is None:
                raise InputError(
                    f"--comparisons: expected finite scores, got none of {row} in {title}; leave it"
                    " out"
                )
            low, high = (100 * end for end in entry["against"][reference])
            mean = 100 * (entry["test"]["mean"] - comparison["methods"][reference]["test"]["mean"])
            color = "C7" if low <= 0 <= high else "C2" if low > 0 else "C3"
            axes.plot([low, high], [place, place], color=color, linewidth=2)
            axes.plot(mean, place, "o", color=color, markersize=5)
        axes.set_title(title, fontsize=11)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].invert_yaxis()
    figure.supxlabel(f"points of the test score above {reference}", fontsize=10)
    return figure


def main() -> None:
    """Draws the picture and writes it."""
    comparisons: dict[str, Mapping[str, Any]] = {}
    for name in _COMPARISONS.value or [""]:
        path = absolute(as_path(name))
        comparison = records.read(path) if name else None
        if comparison is None or "methods" not in comparison:
            raise InputError(
                f"--comparisons: expected a file comparison.json, got {name or 'none'}; run"
                " experiments.compare first"
            )
        title = path.parent.name if path.name == html_report.COMPARISON else path.stem
        if title in comparisons:
            raise InputError(
                f"--comparisons: expected files with different names, got {title} twice; rename one"
            )
        comparisons[title] = comparison
    pictures.save(draw(comparisons, _REFERENCE.value), options.path(_OUTPUT))


if __name__ == "__main__":
    cli.launch(main, required=["comparisons", "output"])
