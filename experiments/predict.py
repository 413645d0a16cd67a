"""Writes the predictions of a finished run's student, in the format of the GLUE server.

python -m experiments.predict --workdir=DIR --input=RTE/test.tsv --output=RTE.tsv

The input is a TSV file with the task's text columns (other columns are ignored), a NumPy file of
images, uint8 [N, H, W, channels], a recording (WAV or FLAC), or a CSV file with a column `path` of
recordings, relative to its folder. The output has one row per example: its index, and the name of
the predicted class or, for a regression, the predicted number in the units of the task. Without
--output, the rows are printed.

That is --format=glue. --format=wmt writes the submission of the quality estimation tasks of WMT: a
line with the size of the student in bytes, one with its number of parameters, and for each pair of
texts its languages, the name of the method, its index and its score.

A run that generates texts reads only the sources, and writes one text a line, by greedy decoding or
with --beams.
"""

import functools
from collections.abc import Sequence

import numpy as np
from absl import flags

from akd_jax import metrics, runs
from akd_jax.data import Examples
from akd_jax.data.readers import speech, tsv
from akd_jax.data.readers.speech import CODEBOOK
from akd_jax.data.speech import codebook, features, recordings
from akd_jax.host import processes
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute, readable_path, reason
from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, Plan, evaluation
from experiments import cli, cost, options

_WORKDIR = options.workdir_flag()
_INPUT = flags.DEFINE_string(
    "input", None, "TSV file of texts, .npy file of images, recording, or CSV file of recordings."
)
_OUTPUT = options.output_flag()
_FORMAT = options.format_flag()
_BEAMS, _LENGTH_PENALTY = options.beams_flag(), options.length_penalty_flag()
_FORMATS = ("glue", "wmt")
_HEADER = "index\tprediction"


def predict_file(
    workdir: Path,
    examples: Path,
    output: Path | None = None,
    format_name: str = "glue",
    beams: int = 1,
    length_penalty: float = 0.0,
) -> list[str]:
    """Returns the student's predictions for the examples in a file, a line each, after a header.

    Generated texts have no header.

    Args:
      workdir: the folder of a finished run.
      examples: the file of the examples.
      output: the file to which the lines are written; None writes nothing.
      format_name: 'glue', or 'wmt' with its two lines as the header.
      beams: the number of beams of generated texts; 1 decodes greedily.
      length_penalty: the exponent of the length by which the score of a beam is divided.

    Raises:
      InputError: `workdir` holds no finished run, the file `examples` does not fit the run's
        task, `output` cannot be written, or the run does not have the format.
    """
    if format_name not in _FORMATS:
        raise InputError(f"--format: expected one of {', '.join(_FORMATS)}, got {format_name!r}")
    if output is not None and (absolute(output) == absolute(examples) or output.is_dir()):
        raise InputError(f"--output: expected the name of a file other than --input, got {output}")
    plan, models = runs.load(workdir, teachers=False)
    if format_name == "wmt":
        _check_wmt(plan)
    unlabelled = read_examples(plan, examples)
    texts = _predictions(plan, models[STUDENT], unlabelled, beams, length_penalty)
    if format_name == "wmt":
        lines = _wmt_lines(plan, models[STUDENT], texts)
    elif plan.dataset.task.target is not None:
        lines = texts
    else:
        lines = [_HEADER, *(f"{i}\t{text}" for i, text in enumerate(texts))]
    if output is not None:
        processes.on_primary(functools.partial(_write, output, lines))
    return lines


def _predictions(
    plan: Plan, student: Model, examples: Examples, beams: int, length_penalty: float
) -> list[str]:
    """Returns the prediction for each example as text."""
    task = plan.dataset.task
    evaluator = evaluation.Evaluator(plan, beams=beams, length_penalty=length_penalty)
    if task.target is not None:
        return [" ".join(text.split()) for text in evaluator.texts(student, examples).texts]
    options.require_greedy(beams)
    logits = evaluator.logits(student, examples)
    return list(map(task.format_prediction, metrics.predictions(logits, task)))


def _check_wmt(plan: Plan) -> None:
    """Raises InputError if a run does not predict scores of translations in named languages."""
    pair, task = plan.settings.dataset.language_pair, plan.dataset.task
    if not task.regression or not pair:
        got = "none" if task.regression else f"{len(task.labels)} classes"
        got = "texts" if task.target is not None else got
        raise InputError(
            "--format: expected glue for a run without scores and config.dataset.language_pair, got"
            f" wmt and {got}; train a run on pairs of texts with a language_pair such as ro-en"
        )


def _wmt_lines(plan: Plan, student: Model, scores: Sequence[str]) -> list[str]:
    """Returns the lines of WMT's submission."""
    pair, size = plan.settings.dataset.language_pair, cost.Size.of(student)
    rows = [f"{pair}\t{plan.method.name}\t{i}\t{score}" for i, score in enumerate(scores)]
    return [str(size.bytes), str(size.parameters), *rows]


def _write(output: Path, lines: Sequence[str]) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: expected a writable file, got: {reason(error)}") from None


def read_examples(plan: Plan, path: Path) -> Examples:
    """Reads unlabelled examples from a file, as inputs of the plan's networks; all labels are 0.

    Raises:
      InputError: the file cannot be read, or its examples do not fit the plan's data set.
    """
    if "codes" in plan.dataset.kinds:
        return _read_recordings(plan, path)
    if plan.dataset.task.target is not None:
        sources = tsv.texts(tsv.read(path, plan.dataset.columns[:-1]))
        texts = np.concatenate([sources, np.full_like(sources[:, :1], "")], axis=1)
        return _tokenise(plan, texts, "texts", "max_length")
    if plan.dataset.texts:
        texts = tsv.texts(tsv.read(path, plan.dataset.columns))
        return _tokenise(plan, texts, "texts", "max_length")
    expected = plan.dataset.example
    try:
        with path.open("rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected a .npy file of images, got: {error}; write it by numpy.save"
        ) from None
    shape = ", ".join(map(str, expected.shape[1:]))
    fits = images.shape[1:] == expected.shape[1:] and images.dtype == expected.dtype
    if not fits or not images.size:
        raise InputError(
            f"{path}: expected images {expected.dtype} [N, {shape}], got {images.dtype}"
            f" {list(images.shape)}; convert them"
        )
    return Examples(images, np.zeros(len(images), np.int32))


def _tokenise(plan: Plan, texts: np.ndarray, name: str, field: str) -> Examples:
    """Tokenises columns of texts or codes; says how many were truncated."""
    examples, truncated = plan.tokenise(texts)
    if truncated:
        cli.print_on_primary(
            f"{truncated:,} of {len(texts):,} {name} were truncated at config.dataset.{field}"
            " tokens."
        )
    return examples


def _read_recordings(plan: Plan, path: Path) -> Examples:
    """Reads a recording, or those that a CSV file names, as codes of the data set's codebook."""
    book = codebook.load(
        readable_path("config.dataset.data_dir", plan.settings.dataset.data_dir) / CODEBOOK
    )
    files = {f"{path}": path}
    if path.suffix.lower() == ".csv":
        rows = speech.read_csv(path, ("path",)).rows
        files = {f"{path}, line {n}": path.parent / name for n, (name,) in rows.items()}
    words, resampled = [], 0
    for place, file in files.items():
        try:
            recording = recordings.read(file, book.settings.sample_rate)
        except InputError as error:
            raise InputError(str(error) if file == path else f"{place}: {error}") from None
        resampled += recording.original_rate != book.settings.sample_rate
        codes = book.encode(features.code_features(recording.samples, book.settings))
        words.append(" ".join(map(str, codes)))
    if resampled:
        cli.print_on_primary(
            f"{resampled:,} of {len(files):,} recordings were resampled to"
            f" {book.settings.sample_rate:,} Hz."
        )
    # The student reads no transcriptions.
    columns = [words if kind == "codes" else [""] * len(words) for kind in plan.dataset.kinds]
    return _tokenise(plan, np.array(columns, object).T, "recordings", "max_codes")


def main() -> None:
    """Writes the predictions and prints their number, or prints the predictions."""
    workdir, examples = options.path(_WORKDIR), options.path(_INPUT)
    format_name = _FORMAT.value or _FORMATS[0]
    search = (_BEAMS.value, _LENGTH_PENALTY.value)
    if _OUTPUT.value is None:
        lines = predict_file(workdir, examples, None, format_name, *search)
        cli.print_on_primary("\n".join(lines))
        return
    output = options.path(_OUTPUT)
    lines = predict_file(workdir, examples, output, format_name, *search)
    # Texts have no header.
    header = 2 if format_name == "wmt" else int(lines[0] == _HEADER)
    cli.print_on_primary(f"{output}: {len(lines) - header:,} predictions")


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "input"], several_processes=True)
