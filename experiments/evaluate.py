"""Evaluates the student of a finished run and its teachers on one split, and says what they cost.

python -m experiments.evaluate --workdir=DIR --split=test

The second table has the number of parameters, the size of the weights in megabytes, and the
milliseconds that a network takes for an example on one device, in batches of 1 and of 32. The time
does not include the tokenisation of texts.
"""

from collections.abc import Mapping

from absl import flags

from akd_jax import runs
from akd_jax.host import processes
from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, Plan
from experiments import cli, cost, options
from experiments.tables import markdown_table, percent

_WORKDIR = options.workdir_flag()
_SPLIT = flags.DEFINE_string(
    "split",
    "test",
    "Split to evaluate: 'train', 'validation', 'test' or, for MNLI, 'test_mismatched'.",
)
_COST = flags.DEFINE_bool("cost", True, "Whether to measure what the networks cost.")

_ERRORS = ("mae", "rmse")  # These metrics have the units of the labels; the others are shares.


def scores_table(scores: Mapping[str, Mapping[str, float]], split: str) -> str:
    """Returns the metrics of each network as a table.

    Args:
      scores: the metrics by name, of each network.
      split: the name of the split.
    """
    names = list(scores[STUDENT])

    def cell(name: str, value: float) -> str:
        return f"{value:.4f}" if name in _ERRORS else percent(value)

    rows = [
        (network, *(cell(name, values[name]) for name in names))
        for network, values in scores.items()
    ]
    return markdown_table((split, *names), rows)


def cost_table(plan: Plan, models: Mapping[str, Model], split: str) -> str:
    """Returns the size of the student and of each teacher, and the time for an example, as a table.

    Args:
      plan: the plan of a finished run.
      models: the student and its teachers.
      split: the name of the split that the examples come from.
    """
    networks = {STUDENT: plan.student, **plan.teachers}
    examples = plan.dataset.splits[split]
    rows = []
    for name, model in models.items():
        size = cost.Size.of(model)
        times = [
            cost.milliseconds_per_example(plan, networks[name], model, examples, batch_size)
            for batch_size in cost.BATCH_SIZES
        ]
        row = (f"{size.parameters:,}", f"{size.bytes / 1e6:,.2f}", *(f"{x:.3f}" for x in times))
        rows.append((name, *row))
    headers = [f"ms, batch {batch_size}" for batch_size in cost.BATCH_SIZES]
    return markdown_table(("", "parameters", "MB", *headers), rows)


def main() -> None:
    """Prints the metrics and the cost of the student and its teachers."""
    (plan, models), split = runs.load(options.path(_WORKDIR)), _SPLIT.value
    cli.print_on_primary(scores_table(runs.evaluate_models(plan, models, split), split))
    if _COST.value and processes.is_primary():
        cli.print_on_primary("\n" + cost_table(plan, models, split))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
