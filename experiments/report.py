"""Recreates report.html of a finished run, comparison or search.

python -m experiments.report --workdir=DIR [--png=FILE]
"""

from absl import flags

from akd_jax.host.errors import InputError
from experiments import cli, html_report, options, pictures
from experiments.curves import draw_curves

_WORKDIR = options.workdir_flag()
_PNG = flags.DEFINE_string("png", None, "PNG file to which the curves are written as well.")


def main() -> None:
    """Writes the report, and the curves as an image if a file is given."""
    workdir = options.path(_WORKDIR)
    print(f"Report: {html_report.write(workdir)}")
    if _PNG.value:
        if not html_report.has_curves(workdir):
            raise InputError(
                f"--png: expected a run or a comparison, got {workdir}, which is a search; leave it"
                " out"
            )
        pictures.write(draw_curves(*html_report.read_runs(workdir)), options.path(_PNG))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"])
