"""Evaluates the student of a finished run, and its teacher, from their checkpoints.

python -m experiments.evaluate --workdir=DIR --split=test
"""

from absl import flags

from akd_jax import plan, runs
from experiments import cli

_WORKDIR = cli.workdir_flag()
_SPLIT = flags.DEFINE_string(
    "split", "test", "'train', 'validation', 'test' or, of MNLI, 'test_mismatched'."
)


def main() -> None:
    """Prints the metrics of student and teacher."""
    scores = runs.evaluate(cli.path(_WORKDIR), _SPLIT.value)
    metrics = list(scores[plan.STUDENT])
    rows = [(name, *(f"{found[m]:.2%}" for m in metrics)) for name, found in scores.items()]
    cli.print_on_primary(cli.markdown_table((_SPLIT.value, *metrics), rows))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
