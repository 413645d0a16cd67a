"""Predicts with the student of a finished run, and writes a file that GLUE's server takes.

python -m experiments.predict --workdir=DIR --input=RTE/test.tsv --output=RTE.tsv

The input is a TSV file with the task's columns of texts (others are passed over), or a NumPy
file of images, uint8 [N, H, W, channels]. The output has a row for each example: its index,
and the predicted label as the task's files name it, or the number of a regression.
"""

import numpy as np
from absl import flags

from akd_jax import metrics, processes, runs
from akd_jax.data import Examples, tsv
from akd_jax.errors import InputError
from akd_jax.files import Path, absolute, reason
from akd_jax.plan import STUDENT, Plan
from experiments import cli

_WORKDIR = cli.workdir_flag()
_INPUT = flags.DEFINE_string("input", None, "The examples: a TSV file, or a .npy file of images.")
_OUTPUT = cli.output_flag()


def predict_file(workdir: Path, examples: Path, output: Path) -> int:
    """Writes the student's predictions for the examples in a file; returns their number.

    Raises:
      InputError: there is no finished run, or the file does not hold examples of its task.
    """
    if absolute(output) == absolute(examples) or output.is_dir():
        raise InputError(f"--output: expected the name of a file other than --input, got {output}")
    plan, models = runs.load(workdir, teachers=False)
    unlabelled = read(plan, examples)
    logits = runs.predictor()(models[STUDENT], plan.batches(unlabelled))
    found = metrics.predictions(logits, plan.dataset.task)
    rows = [f"{i}\t{plan.dataset.task.format_prediction(value)}\n" for i, value in enumerate(found)]

    def write() -> None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text("".join(["index\tprediction\n", *rows]), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{output}: expected a file to write, got: {reason(error)}") from None

    processes.on_primary(write)
    return len(rows)


def read(plan: Plan, path: Path) -> Examples:
    """The examples in a file, as the networks of a plan take them; their labels are 0.

    Raises:
      InputError: the file does not hold inputs of the plan's data set.
    """
    if plan.dataset.texts:
        texts = tsv.texts(tsv.read(path, plan.dataset.columns))
        examples, cut = plan.tokenise(texts)
        if cut:
            cli.print_on_primary(f"{cut} of {len(texts)} texts are over max_length, and were cut.")
        return examples
    expected = plan.dataset.example
    try:
        with path.open("rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected a .npy file of images, got: {error}") from None
    shape = ", ".join(map(str, expected.shape[1:]))
    same = images.shape[1:] == expected.shape[1:] and images.dtype == expected.dtype
    if not same or not images.size:
        raise InputError(
            f"{path}: expected images {expected.dtype} [N, {shape}], got {images.dtype}"
            f" {list(images.shape)}"
        )
    return Examples(images, np.zeros(len(images), np.int32))


def main() -> None:
    """Predicts what the flags say."""
    output = cli.path(_OUTPUT)
    count = predict_file(cli.path(_WORKDIR), cli.path(_INPUT), output)
    cli.print_on_primary(f"{output}: {count:,} predictions")


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "input", "output"], several_processes=True)
