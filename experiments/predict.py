"""Predicts with the student of a finished run, and writes a file that GLUE's server takes.

python -m experiments.predict --workdir=DIR --input=RTE/test.tsv --output=RTE.tsv

The input is a TSV file with the task's columns of texts (labels are passed over), or images
as a NumPy file, uint8 [N, H, W, channels]. The output has a row for each example: its index
and the predicted label, by its name in the task's files, or the number of a regression.
"""

from pathlib import Path

import numpy as np
from absl import flags

from akd_jax import metrics, records, run
from akd_jax.data import DATASETS, Examples, glue, tsv
from akd_jax.errors import InputError
from akd_jax.plan import STUDENT, Plan
from experiments import cli

_WORKDIR = cli.workdir_flag()
_INPUT = flags.DEFINE_string("input", None, "The examples: a TSV file, or a .npy file of images.")
_OUTPUT = flags.DEFINE_string("output", None, "The TSV file to write.")
_MODEL = cli.model_flag()


def predict(workdir: Path, examples: Path, output: Path, model: str = STUDENT) -> int:
    """Writes the predictions for the examples in a file; returns their number.

    Raises:
      InputError: there is no finished run, or the file does not hold examples of its task.
    """
    planned, models = run.load(workdir, teachers=model != STUDENT)
    cli.check_model(model, models)
    records.check_writable(output.parent)
    inputs, count = read(planned, examples)
    unlabelled = Examples(inputs, np.zeros(count, np.int32))
    logits = run.predictor()(models[model], planned.batches(unlabelled))
    found = metrics.predictions(logits, planned.dataset.task)
    names = _names_in_files(planned)
    cells = [names[value] if names else f"{value:.3f}" for value in found]
    rows = "".join(f"{index}\t{cell}\n" for index, cell in enumerate(cells))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f"index\tprediction\n{rows}", encoding="utf-8")
    return count
