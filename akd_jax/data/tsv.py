"""Texts in tab-separated files: a header, then a row for each example, without quotes."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from akd_jax.data.dataset import Examples, Source
from akd_jax.errors import InputError
from akd_jax.files import Path
from akd_jax.types import Task

_SENTENCES = (("sentence1", "sentence2"), ("sentence",))
_LABEL = "label"
MOVIE_REVIEWS = {"0": "negative", "1": "positive"}  # The labels' names in the files, and ours.


def load(data_dir: Path | None) -> Source:
    """A task of one's own: train.tsv, dev.tsv and test.tsv in a folder, one of the latter optional.

    Their columns are `sentence` and `label`, or `sentence1`, `sentence2` and `label`; others are
    passed over. Labels are names; those of train.tsv are the classes, in their order (of
    numbers where they all are). With dev.tsv and test.tsv, dev.tsv is the validation split;
    with one of them, it is the test split, and validation is held out of train.tsv.

    Raises:
      InputError: a file is missing, empty or not such a table; a label is not one of train.tsv.
    """
    return _load(data_dir, None)


def load_movie_reviews(data_dir: Path | None) -> Source:
    """Sentences of movie reviews, negative or positive, from the ratings of VADER's authors
    (Hutto and Gilbert, ICWSM 2014); `experiments.prepare` makes the three files.
    """
    return _load(data_dir, MOVIE_REVIEWS)


def _load(data_dir: Path | None, labels: Mapping[str, str] | None) -> Source:
    if data_dir is None:
        raise InputError("config.dataset.data_dir: expected the folder of the TSV files, got none")
    train = data_dir / "train.tsv"
    columns = _sentences(train)
    tables = {
        path.stem: read(path, [*columns, _LABEL])
        for path in (train, data_dir / "dev.tsv", data_dir / "test.tsv")
        if path == train or path.exists()
    }
    if len(tables) == 1:
        raise InputError(f"{data_dir}: expected dev.tsv or test.tsv beside train.tsv, got neither")
    labels = _classes(tables["train"]) if labels is None else labels
    train_split, *splits = (examples(table, labels) for table in tables.values())
    return Source(
        train=train_split,
        test=splits[-1],
        validation=splits[0] if len(splits) == 2 else None,
        task=Task(tuple(labels.values()), codes=tuple(labels)),
        normalise=None,
        columns=columns,
    )


@dataclasses.dataclass(frozen=True)
class Table:
    """Some columns of a tab-separated file.

    Attributes:
      path: of the file.
      rows: their texts, by the number of their line.
    """

    path: Path
    rows: Mapping[int, Sequence[str]]


def read(path: Path, columns: Sequence[str] | Sequence[int], *, skip_broken: bool = False) -> Table:
    """Reads columns of a file, by their names in its header; or by number where it has none.

    Args:
      path: of the file.
      columns: names, or numbers from 0.
      skip_broken: whether rows that lack columns are passed over, and counted in the log.

    Raises:
      InputError: there is no such file, it is empty or not UTF-8, its header lacks a column,
        or a row does, whose line is named.
    """
    lines = _lines(path)
    if isinstance(columns[0], int):
        numbers, first_line = [int(column) for column in columns], 1
    else:
        header = lines.pop(0).split("\t")
        missing = [name for name in columns if name not in header]
        if missing:
            raise InputError(
                f"{path}, line 1: expected a header with {', '.join(map(str, columns))}, got no"
                f" {missing[0]!r} among {', '.join(header)[:80]!r}"
            )
        numbers, first_line = [header.index(str(name)) for name in columns], 2
    if not lines:
        raise InputError(f"{path}: expected rows, got an empty file")
    rows = {}
    for number, line in enumerate(lines, start=first_line):
        cells = line.split("\t")
        if len(cells) <= max(numbers):
            if skip_broken:
                continue
            raise InputError(
                f"{path}, line {number}: expected at least {max(numbers) + 1} columns with tabs"
                f" between them, got {len(cells)}: {line[:60]!r}"
            )
        rows[number] = [cells[column] for column in numbers]
    if len(rows) < len(lines):
        logging.warning("%s: %d broken rows are passed over", path, len(lines) - len(rows))
    return Table(path, rows)


def examples(table: Table, labels: Mapping[str, str]) -> Examples:
    """Examples of a table whose last column is the label, and whose others are texts.

    Args:
      table: as it was read.
      labels: their names in the file, in the order of the classes; none for a regression,
        whose labels are numbers.

    Raises:
      InputError: a label is another, or no number; its line is named.
    """
    indices = {name: index for index, name in enumerate(labels)}
    found = []
    for number, row in table.rows.items():
        label = indices.get(row[-1]) if labels else _number(row[-1])
        if label is None:
            some = ", ".join(map(repr, list(labels)[:10])) + (" ..." if len(labels) > 10 else "")
            expected = f"one of {some}" if labels else "a number"
            raise InputError(
                f"{table.path}, line {number}: expected {expected} as the label, got {row[-1]!r}"
            )
        found.append(label)
    return Examples(texts(table, -1), np.array(found, np.int32 if labels else np.float32))


def _number(text: str) -> float | None:
    """The finite number that a text says; None: it says none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def texts(table: Table, end: int | None = None) -> np.ndarray:
    """The texts of a table up to a column, [N, columns]."""
    return np.array([row[:end] for row in table.rows.values()], object)


def _classes(table: Table) -> dict[str, str]:
    """The labels in a table, each its own name, in their order."""
    names = {row[-1] for row in table.rows.values()}
    if len(names) < 2 or "" in names:
        raise InputError(
            f"{table.path}: expected at least two labels, and one in each row, got"
            f" {', '.join(map(repr, sorted(names)[:3]))}"
        )
    numbers = all(re.fullmatch("-?[0-9]+", name) for name in names)
    order = sorted(names, key=lambda name: (int(name), name) if numbers else (0, name))
    return {name: name for name in order}


def _sentences(path: Path) -> tuple[str, ...]:
    """The columns of texts, by the header of a file."""
    header = _lines(path)[0].split("\t")
    for sentences in _SENTENCES:
        if set(sentences) <= set(header):
            return sentences
    raise InputError(
        f"{path}, line 1: expected a header with sentence, or with sentence1 and sentence2, and"
        f" tabs between its names, got {', '.join(header)[:80]!r}"
    )


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty at its end."""
    try:
        # Not str.splitlines, which also splits at rarer characters that sentences contain.
        text = path.read_bytes().decode("utf-8-sig")
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise InputError(
            f"{path}: expected a file, got none; check the path, or config.dataset.data_dir"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a text file in UTF-8, got: {error}") from None
    if lines == [""]:
        raise InputError(f"{path}: expected a header and rows, got an empty file")
    return lines
