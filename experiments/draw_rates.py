"""Draws how often RL-KD chooses each teacher over the epochs, from a row of a comparison.

python -m experiments.draw_rates --workdir=DIR/rl_r2 --output=docs/rates.png

The folder is that of a row, with a run for each seed, or that of one run. A line is the mean over
the seeds; a band shows the range from the smallest to the largest rate. The weights of a fixed rule
are drawn as they are.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from akd_jax.host.errors import InputError
from akd_jax.host.writers import METRICS
from experiments import cli, html_report, options, pictures
from experiments.curves import EpochRecords

_WORKDIR = options.workdir_flag()
_OUTPUT = options.output_flag()
_TITLE = options.title_flag()

_PREFIX = "train_rate_"


def draw(seeds: Sequence[EpochRecords], title: str) -> Figure:
    """Draws the rate of each teacher over the epochs.

    Args:
      seeds: the records of each run.
      title: the title.

    Raises:
      InputError: the records have no rates, or not those of the same epochs and teachers.
    """
    rated = [[record for record in run if _rates(record)] for run in seeds]
    if not all(rated):
        raise InputError(
            "--workdir: expected runs of rl_kd, whose records have rates of the teachers, got"
            " others; give a run or a row of rl_kd"
        )
    drawn = [[(record["epoch"], _rates(record)) for record in run] for run in rated]
    if any(run != drawn[0] for run in drawn):
        raise InputError(
            "--workdir: expected runs with the same epochs and teachers, got"
            f" {', '.join(str(len(run)) for run in drawn)} epochs; finish the comparison first"
        )
    epochs = [epoch for epoch, _ in drawn[0]]
    figure, axes = pictures.new_axes()
    for number, field in enumerate(_rates(rated[0][0])):
        values = np.array([[record[field] for record in run] for run in rated])
        color, style = f"C{number}", ("-", "--", "-.", ":")[number % 4]
        label = field.removeprefix(_PREFIX)
        axes.plot(epochs, values.mean(axis=0), style, color=color, marker="o", label=label)
        axes.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.12, linewidth=0
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("share of the examples that a teacher teaches")
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    pictures.add_legend(figure)
    return figure


def _rates(record: dict) -> list[str]:
    """Returns the fields with the rates of the teachers."""
    return [x for x in record if x.startswith(_PREFIX) and not x.endswith("_scale")]


def main() -> None:
    """Draws the picture and writes it."""
    workdir = options.path(_WORKDIR)
    runs = [workdir] if (workdir / METRICS).exists() else sorted(workdir.glob("seed_*"))
    runs = [run for run in runs if (run / METRICS).exists()]
    if not runs:
        raise InputError(
            f"--workdir: expected a run, or a row with its seeds, got none in {workdir}; give one"
        )
    figure = draw([html_report.read_metrics(run) for run in runs], _TITLE.value or "")
    pictures.save(figure, options.path(_OUTPUT))


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "output"])
