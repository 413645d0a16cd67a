"""Predicts with the student of a finished run, and writes a file that GLUE's server takes.

python -m experiments.predict --workdir=DIR --input=RTE/test.tsv --output=RTE.tsv

The input is a TSV file with the task's columns of texts (others are passed over), or a NumPy
file of images, uint8 [N, H, W, channels]. The output has a row for each example: its index,
and the predicted label as the task's files name it, or the number of a regression.
"""

from pathlib import Path

import numpy as np
from absl import flags

from akd_jax import data, metrics, records, run
from akd_jax.data import Examples
from akd_jax.errors import InputError
from akd_jax.plan import STUDENT, Plan
from experiments import cli

_WORKDIR = cli.workdir_flag()
_INPUT = flags.DEFINE_string("input", None, "The examples: a TSV file, or a .npy file of images.")
_OUTPUT = cli.output_flag()


def predict(workdir: Path, examples: Path, output: Path) -> int:
    """Writes the student's predictions for the examples in a file; returns their number.

    Raises:
      InputError: there is no finished run, or the file does not hold examples of its task.
    """
    planned, models = run.load(workdir, teachers=False)
    inputs = read(planned, examples)
    records.check_writable(output.parent)
    logits = run.predictor()(models[STUDENT], planned.batches(inputs))
    found = metrics.predictions(logits, planned.dataset.task)
    cells = [planned.dataset.task.write(prediction) for prediction in found]
    rows = "".join(f"{index}\t{cell}\n" for index, cell in enumerate(cells))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f"index\tprediction\n{rows}", encoding="utf-8")
    return len(cells)


def read(planned: Plan, path: Path) -> Examples:
    """The examples in a file, as the networks of a plan take them; their labels are 0.

    Raises:
      InputError: the file does not hold inputs of the plan's data set.
    """
    if planned.reader is not None:
        texts = data.read_texts(planned.settings.dataset.name, path)
        inputs, cut = planned.reader(texts)
        if cut:
            print(f"{cut} of {len(texts)} texts are over max_length, and were cut.")
        return Examples(inputs, np.zeros(len(texts), np.int32))
    expected = planned.dataset.example
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected a .npy file of images, got: {error}") from None
    if images.shape[1:] != expected.shape[1:] or images.dtype != expected.dtype or not len(images):
        shape = ", ".join(map(str, expected.shape[1:]))
        raise InputError(
            f"{path}: expected images {expected.dtype} [N, {shape}], got {images.dtype}"
            f" {list(images.shape)}"
        )
    return Examples(images, np.zeros(len(images), np.int32))


def main() -> None:
    """Predicts what the flags say."""
    output = Path(_OUTPUT.value or "")
    count = predict(Path(_WORKDIR.value), Path(_INPUT.value or ""), output)
    print(f"{output}: {count:,} predictions")


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "input", "output"])
