"""Writes the predictions of a finished run's student, in the format of the GLUE server.

python -m experiments.predict --workdir=DIR --input=RTE/test.tsv --output=RTE.tsv

The input is a TSV file with the task's text columns (other columns are ignored), or a NumPy file
of images, uint8 [N, H, W, channels]. The output has one row per example: its index, and the name
of the predicted class or, for a regression, the predicted number.
"""

import numpy as np
from absl import flags

from akd_jax import metrics, runs
from akd_jax.data import Examples
from akd_jax.data.readers import tsv
from akd_jax.host import processes
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute, reason
from akd_jax.runs import STUDENT, Plan
from akd_jax.training.evaluate import Predictor
from experiments import cli, options

_WORKDIR = options.workdir_flag()
_INPUT = flags.DEFINE_string("input", None, "TSV file of texts, or .npy file of images.")
_OUTPUT = options.output_flag()


def predict_file(workdir: Path, examples: Path, output: Path) -> int:
    """Writes the student's predictions for the examples in a file; returns their number.

    Raises:
      InputError: `workdir` holds no finished run, the file `examples` does not fit the run's
        task, or `output` cannot be written.
    """
    if absolute(output) == absolute(examples) or output.is_dir():
        raise InputError(f"--output: expected the name of a file other than --input, got {output}")
    plan, models = runs.load(workdir, teachers=False)
    unlabelled = read_examples(plan, examples)
    outputs = Predictor()(models[STUDENT], plan.batches(unlabelled))
    task = plan.dataset.task
    predictions = metrics.predictions(np.asarray(outputs.logits), task)
    rows = [f"{i}\t{task.format_prediction(value)}\n" for i, value in enumerate(predictions)]

    def write() -> None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text("".join(["index\tprediction\n", *rows]), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{output}: expected a writable file, got: {reason(error)}") from None

    processes.on_primary(write)
    return len(rows)


def read_examples(plan: Plan, path: Path) -> Examples:
    """Reads unlabelled examples from a file, as inputs of the plan's networks; all labels are 0.

    Raises:
      InputError: the file cannot be read, or its examples do not fit the plan's data set.
    """
    if plan.dataset.texts:
        texts = tsv.texts(tsv.read(path, plan.dataset.columns))
        examples, truncated = plan.tokenise(texts)
        if truncated:
            cli.print_on_primary(
                f"{truncated:,} of {len(texts):,} texts were truncated at"
                " config.dataset.max_length tokens."
            )
        return examples
    expected = plan.dataset.example
    try:
        with path.open("rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected a .npy file of images, got: {error}") from None
    shape = ", ".join(map(str, expected.shape[1:]))
    fits = images.shape[1:] == expected.shape[1:] and images.dtype == expected.dtype
    if not fits or not images.size:
        raise InputError(
            f"{path}: expected images {expected.dtype} [N, {shape}], got {images.dtype}"
            f" {list(images.shape)}"
        )
    return Examples(images, np.zeros(len(images), np.int32))


def main() -> None:
    """Writes the predictions and prints their number."""
    output = options.path(_OUTPUT)
    count = predict_file(options.path(_WORKDIR), options.path(_INPUT), output)
    cli.print_on_primary(f"{output}: {count:,} predictions")


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "input", "output"], several_processes=True)
