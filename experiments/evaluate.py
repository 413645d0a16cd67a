"""Evaluates the student of a finished run and its teachers on one split, and reports their cost.

python -m experiments.evaluate --workdir=DIR --split=test

The second table has the number of parameters, the size of the weights in megabytes, and the
milliseconds that a network takes for an example on one device, in batches of 1 and of 64. The time
does not include the tokenisation of texts. Beside it is the number of multiply-adds for an example,
in millions, as XLA counts them in the compiled program. For a run that generates texts, by greedy
decoding or with --beams, the table has the tokens per second of greedy decoding, in batches of 1
and of 64.
"""

from collections.abc import Mapping

from absl import flags

from akd_jax import runs
from akd_jax.host import processes
from akd_jax.metrics import generation
from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, Plan, evaluation
from akd_jax.training.texts import score
from experiments import cli, cost, options
from experiments.tables import markdown_table, percent

_WORKDIR = options.workdir_flag()
_SPLIT = options.split_flag()
_BEAMS, _LENGTH_PENALTY = options.beams_flag(), options.length_penalty_flag()
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
    generates = plan.dataset.task.target is not None
    measure = cost.tokens_per_second if generates else cost.milliseconds_per_example
    rows = []
    for name, model in models.items():
        size, network = cost.Size.of(model), networks[name]
        cells = [f"{size.parameters:,}", f"{size.bytes / 1e6:,.2f}"]
        if not generates:  # A program with a loop over the tokens counts its body once.
            cells.append(f"{cost.multiply_adds(plan, network, model, examples) / 1e6:,.2f}")
        for count in cost.BATCH_SIZES:
            value = measure(plan, network, model, examples, count)
            cells.append(f"{value:,.0f}" if generates else f"{value:.3f}")
        rows.append((name, *cells))
    unit = "tokens/s" if generates else "ms"
    headers = [] if generates else ["M multiply-adds"]
    headers += [f"{unit}, batch {count}" for count in cost.BATCH_SIZES]
    return markdown_table(("", "parameters", "MB", *headers), rows)


def text_tables(
    plan: Plan,
    models: Mapping[str, Model],
    split: str,
    beams: int = 1,
    length_penalty: float = 0.0,
) -> str:
    """Returns the metrics of generated texts, and BLEU by the length of the source, as tables.

    Args:
      plan: the plan of a finished run that generates texts.
      models: the student and its teachers.
      split: the name of the split.
      beams: the number of beams; 1 decodes greedily.
      length_penalty: the exponent of the length by which the score of a beam is divided.
    """
    task = plan.dataset.task
    sources, references = evaluation.sources(plan, split), evaluation.references(plan, split)
    groups = evaluation.groups(plan, split)
    evaluator = evaluation.Evaluator(plan, beams=beams, length_penalty=length_penalty)
    texts = {name: evaluator.texts(model, split) for name, model in models.items()}
    scores = {name: score(x, references, task, groups) for name, x in texts.items()}
    table = scores_table(scores, split)
    if task.metric != "bleu":
        return table
    parts = {
        name: generation.bleu_by_source_length(x.texts, references, sources)
        for name, x in texts.items()
    }
    lengths = [name for name, part in parts[STUDENT].items() if part.rows]
    rows = [
        (name, *(percent(of_network[length].bleu) for length in lengths))
        for name, of_network in parts.items()
    ]
    by_length = markdown_table(("BLEU by words of the source", *lengths), rows)
    signatures = f"{generation.bleu_signature()}; chrF: {generation.chrf_signature()}"
    return f"{table}\n\n{by_length}\n\nBLEU: {signatures}"


def main() -> None:
    """Prints the metrics and the cost of the student and its teachers."""
    (plan, models), split = runs.load(options.path(_WORKDIR)), _SPLIT.value
    if plan.dataset.task.target is None:
        options.require_greedy(_BEAMS.value)
        table = scores_table(runs.evaluate_models(plan, models, split), split)
    else:
        runs.check_split(plan, split)
        table = text_tables(plan, models, split, _BEAMS.value, _LENGTH_PENALTY.value)
    cli.print_on_primary(table)
    if _COST.value and processes.is_primary():
        cli.print_on_primary("\n" + cost_table(plan, models, split))


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
