"""Evaluates the student of a finished run and its teachers on one split.

python -m experiments.evaluate --workdir=DIR --split=test
"""

from absl import flags

from akd_jax import runs
from akd_jax.runs import STUDENT
from experiments import cli, options
from experiments.tables import markdown_table, percent

_WORKDIR = options.workdir_flag()
_SPLIT = flags.DEFINE_string(
    "split",
    "test",
    "Split to evaluate: 'train', 'validation', 'test' or, for MNLI, 'test_mismatched'.",
)


def main() -> None:
    """Prints the metrics of the student and its teachers."""
    metrics = runs.evaluate(options.path(_WORKDIR), _SPLIT.value)
    names = list(metrics[STUDENT])
    rows = [
        (network, *(percent(values[name]) for name in names)) for network, values in metrics.items()
    ]
    cli.print_on_primary(markdown_table((_SPLIT.value, *names), rows))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
