"""The files of a task of a stream: train.tsv, dev.tsv, test.tsv and metric.json."""

import hashlib
import json
import pathlib
from collections.abc import Mapping

from akd_jax.data.readers import streams
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, replace_text

SIZES = {"test": 600, "dev": 300, "train": 4000}


def is_complete(folder: Path) -> bool:
    """Whether the folder of a task has the files of all splits."""
    return all((folder / f"{split}.tsv").exists() for split in SIZES)


def write(
    folder: pathlib.Path,
    answers: Mapping[str, str],
    *,
    question: str,
    metric: str,
    remedy: str,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Writes the files of a task; a hash of a context decides on its split.

    Args:
      folder: the folder of the task.
      answers: the answer to each context.
      question: the question of all examples.
      metric: the metric of the task, for metric.json.
      remedy: what to do if there are too few examples, for the end of the message.
      sizes: the number of examples of each split; None for SIZES.

    Raises:
      InputError: there are too few examples, or the folder cannot be written.
    """
    sizes = sizes or SIZES
    rows = sorted(answers.items(), key=lambda row: hashlib.sha256(row[0].encode()).digest())
    if len(rows) < sum(sizes.values()):
        raise InputError(
            f"{folder}: expected at least {sum(sizes.values()):,} examples of {question!r}, got"
            f" {len(rows):,}; {remedy}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / streams.METRIC, json.dumps({"metric": metric}) + "\n")
        start = 0
        for split, size in sizes.items():
            part = rows[start : start + size]
            lines = [f"{context}\t{question}\t{answer}\n" for context, answer in part]
            header = "\t".join(streams.COLUMNS) + "\n"
            replace_text(folder / f"{split}.tsv", "".join([header, *lines]))
            start += size
    except OSError as error:
        raise not_writable(folder, error) from None
