"""Texts in tab-separated files: a header line and one row per example, without quoting."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from akd_jax.data.dataset import Examples, Source
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import Task

_TEXT_COLUMNS = (("sentence1", "sentence2"), ("sentence",))
LABEL = "label"
MOVIE_REVIEWS = {"0": "negative", "1": "positive"}  # Maps the labels in the files to classes.


def load(data_dir: Path | None) -> Source:
    """Reads a custom classification task from train.tsv, dev.tsv and test.tsv in a folder.

    The files have the columns `sentence` and `label`, or `sentence1`, `sentence2` and `label`.
    Other columns are ignored. The classes are the labels of train.tsv, sorted by value if all of
    them are integers and by name otherwise. With both dev.tsv and test.tsv, dev.tsv is the
    validation split. With only one of them, that one is the test split, and the validation split
    is held out of train.tsv.

    Raises:
      InputError: a file is missing, empty or malformed, or a label does not occur in train.tsv.
    """
    return _load(data_dir, None)


def load_movie_reviews(data_dir: Path | None) -> Source:
    """Reads sentences of movie reviews with the labels negative and positive.

    The labels come from the ratings published with VADER (Hutto and Gilbert, ICWSM 2014).
    `experiments.prepare` writes the three files.
    """
    return _load(data_dir, MOVIE_REVIEWS)


def _load(data_dir: Path | None, labels: Mapping[str, str] | None) -> Source:
    paths = split_paths(data_dir)
    columns = text_columns(paths[0])
    tables = {path.stem: read(path, [*columns, LABEL]) for path in paths}
    check_split_paths(paths)
    labels = classes([tables["train"]]) if labels is None else labels
    train_split, *splits = (examples(table, labels) for table in tables.values())
    return Source(
        train=train_split,
        test=splits[-1],
        validation=splits[0] if len(splits) == 2 else None,
        task=Task(tuple(labels.values()), codes=tuple(labels)),
        normalise=None,
        columns=columns,
    )


def split_paths(data_dir: Path | None) -> list[Path]:
    """Returns train.tsv of a folder, and dev.tsv and test.tsv if they exist.

    Raises:
      InputError: no folder is given.
    """
    if data_dir is None:
        raise InputError(
            "config.dataset.data_dir: expected the folder of the TSV files, got none; set it"
        )
    train, *others = (data_dir / f"{name}.tsv" for name in ("train", "dev", "test"))
    return [train, *(path for path in others if path.exists())]


def check_split_paths(paths: Sequence[Path]) -> None:
    """Raises InputError if the paths from `split_paths` have neither dev.tsv nor test.tsv."""
    if len(paths) == 1:
        raise InputError(
            f"{paths[0].parent}: expected dev.tsv or test.tsv beside train.tsv, got neither; add"
            " one"
        )


@dataclasses.dataclass(frozen=True)
class Table:
    """Selected columns of a tab-separated file.

    Attributes:
      path: path of the file.
      rows: maps a line number, counted from 1, to the cells of its row.
    """

    path: Path
    rows: Mapping[int, Sequence[str]]


def read(
    path: Path,
    columns: Sequence[str] | Sequence[int],
    *,
    skip_broken: bool = False,
    equal_lengths: bool = False,
) -> Table:
    """Reads columns of a file.

    Args:
      path: path of the file.
      columns: names of columns in the header, or indices from 0 for a file without a header.
      skip_broken: whether to skip rows with missing columns; their number is logged.
      equal_lengths: whether all rows must have as many columns as the first line. Otherwise,
        additional columns of a row are ignored.

    Raises:
      InputError: the file is missing, empty or not UTF-8, its header or a row lacks a column, or a
        row has another number of columns than `equal_lengths` allows.
    """
    lines = _read_lines(path)
    width = lines[0].count("\t") + 1
    if isinstance(columns[0], int):
        indices, first_line = [int(column) for column in columns], 1
    else:
        header = lines.pop(0).split("\t")
        missing = [name for name in columns if name not in header]
        if missing:
            raise InputError(
                f"{path}, line 1: expected a header with {', '.join(map(str, columns))}, got no"
                f" {missing[0]!r} in {', '.join(header)[:80]!r}; correct the header"
            )
        indices, first_line = [header.index(str(name)) for name in columns], 2
    if not lines:
        raise InputError(f"{path}: expected rows, got only a header; add examples")
    rows = {}
    for number, line in enumerate(lines, start=first_line):
        cells = line.split("\t")
        if len(cells) <= max(indices):
            if skip_broken:
                continue
            raise InputError(
                f"{path}, line {number}: expected at least {max(indices) + 1} columns separated by"
                f" tabs, got {len(cells)}: {line[:60]!r}; correct the row"
            )
        if equal_lengths and len(cells) != width:
            raise InputError(
                f"{path}, line {number}: expected {width} columns separated by tabs, as in line 1,"
                f" got {len(cells)}: {line[:60]!r}; correct the row"
            )
        rows[number] = [cells[index] for index in indices]
    if len(rows) < len(lines):
        logging.warning("%s: skipped %d rows with missing columns", path, len(lines) - len(rows))
    return Table(path, rows)


def examples(table: Table, labels: Mapping[str, str]) -> Examples:
    """Converts a table to examples. The last column is the label; the others are texts.

    Args:
      table: the table, from `read`.
      labels: the labels in the file, in the order of the class indices; empty for a regression,
        whose labels are numbers.

    Raises:
      InputError: a label is unknown or, in a regression, not a finite number.
    """
    indices = {name: index for index, name in enumerate(labels)}
    targets = []
    for number, row in table.rows.items():
        target = indices.get(row[-1]) if labels else _parse_number(row[-1])
        if target is None:
            some = ", ".join(map(repr, list(labels)[:10])) + (" ..." if len(labels) > 10 else "")
            expected = f"one of {some}" if labels else "a finite number"
            raise InputError(
                f"{table.path}, line {number}: expected {expected} as the label, got {row[-1]!r};"
                " correct the row"
            )
        targets.append(target)
    return Examples(texts(table, -1), np.array(targets, np.int32 if labels else np.float32))


def _parse_number(text: str) -> float | None:
    """Returns the finite number that a text contains, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def texts(table: Table, end: int | None = None) -> np.ndarray:
    """Returns the first `end` columns of a table as an array of str, [N, columns]."""
    return np.array([row[:end] for row in table.rows.values()], object)


def classes(tables: Sequence[Table]) -> dict[str, str]:
    """Returns the sorted labels of tables, as a mapping of each label to itself.

    Raises:
      InputError: there are fewer than two labels, or one of them is empty.
    """
    names = {row[-1] for table in tables for row in table.rows.values()}
    if len(names) < 2 or "" in names:
        raise InputError(
            f"{tables[0].path}: expected at least two different labels and no empty one, got"
            f" {', '.join(map(repr, sorted(names)[:3]))}; correct the labels"
        )
    numbers = all(re.fullmatch("-?[0-9]+", name) for name in names)
    order = sorted(names, key=lambda name: (int(name), name) if numbers else (0, name))
    return {name: name for name in order}


def text_columns(path: Path) -> tuple[str, ...]:
    """Returns the names of the columns that hold the texts of a file, from its header.

    Raises:
      InputError: the file is missing or empty, or its header has no such columns.
    """
    header = _read_lines(path)[0].split("\t")
    for columns in _TEXT_COLUMNS:
        if set(columns) <= set(header):
            return columns
    raise InputError(
        f"{path}, line 1: expected a header separated by tabs with sentence, or with sentence1 and"
        f" sentence2, got {', '.join(header)[:80]!r}; rename the columns"
    )


def _read_lines(path: Path) -> list[str]:
    """Returns the lines of a file, without the empty lines at its end."""
    try:
        # str.splitlines would also split at Unicode separators, which occur within sentences.
        text = path.read_bytes().decode("utf-8-sig")
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise InputError(
            f"{path}: expected a file, got none; check the path, or config.dataset.data_dir"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        place = str(path)
        if isinstance(error, UnicodeDecodeError):
            line = error.object[: error.start].count(b"\n") + 1
            place = f"{path}, line {line}"
        raise InputError(
            f"{place}: expected a text file in UTF-8, got: {error}; convert it"
        ) from None
    if lines == [""]:
        raise InputError(f"{path}: expected a header and rows, got an empty file; fetch it again")
    return lines
