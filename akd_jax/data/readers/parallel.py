"""Parallel text: pairs of a source and its translation, in tab-separated files."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import Field

from akd_jax.data import sequences
from akd_jax.data.dataset import Source
from akd_jax.data.readers import tsv
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.host.settings import Section
from akd_jax.types import Task

_TRANSLATION = ("bleu", "chrf")
_SUMMARY = ("rouge1", "rouge2", "rouge_l")


class TextColumns(Section):
    """The columns of sources and translations."""

    source_column: str = Field(
        default="",
        description="Column of the source texts; empty for 'source', or 'original' in MLQE-PE.",
    )
    target_column: str = Field(
        default="",
        description="Column of the translations; empty for 'target', or 'translation' in MLQE-PE.",
    )


_DEFAULT_COLUMNS = TextColumns()


def column_names(
    options: TextColumns, default: tuple[str, str] = ("source", "target")
) -> tuple[str, str]:
    """Returns the columns of sources and translations.

    Args:
      options: the names of the columns; empty ones have the default name.
      default: the default names.
    """
    return options.source_column or default[0], options.target_column or default[1]


def read_pairs(path: Path, columns: tuple[str, str]) -> np.ndarray:
    """Reads the pairs of a file with a header and no quoting.

    Args:
      path: the path of the file.
      columns: the names of the columns of sources and translations; others are ignored.

    Returns:
      The sources and translations, an array of str [N, 2].

    Raises:
      InputError: the file is missing, empty or not UTF-8, its header lacks a column, a row has
        another number of columns than the header, or a text is empty.
    """
    return tsv.texts(_read_table(path, columns))


def load_splits(data_dir: Path | None, columns: tuple[str, str]) -> dict[str, np.ndarray]:
    """Reads train.tsv, and dev.tsv and test.tsv or one of them, from a folder.

    Args:
      data_dir: the folder.
      columns: the names of the columns of sources and translations.

    Returns:
      The pairs of each file that exists, arrays of str [N, 2], by the name of its split: 'train',
      'dev' or 'test'.

    Raises:
      InputError: no folder is given, a pair of dev.tsv or test.tsv is also in train.tsv; and see
        `read_pairs`.
    """
    paths = tsv.split_paths(data_dir)
    tables = {path.stem: _read_table(path, columns) for path in paths}
    tsv.check_split_paths(paths)
    train, *evaluated = tables.values()
    check_disjoint(train, evaluated)
    return {name: tsv.texts(table) for name, table in tables.items()}


def load(
    metrics: tuple[str, ...], data_dir: Path | None, options: TextColumns = _DEFAULT_COLUMNS
) -> Source:
    """Reads a task of generating targets from sources; see `load_splits` for the files.

    The folder also has source.tokenizer.json and target.tokenizer.json, which
    `experiments.prepare` writes. With only one of dev.tsv and test.tsv, that one is the test split,
    and the validation split is held out of train.tsv.

    Args:
      metrics: the metrics of the generated texts; the first one selects the best checkpoint.
      data_dir: the folder.
      options: the names of the columns.

    Raises:
      InputError: a file is missing, damaged or malformed, or a text is empty.
    """
    columns = column_names(options)
    train, *others = (
        sequences.unlabelled(pairs) for pairs in load_splits(data_dir, columns).values()
    )
    assert data_dir is not None, "expected a folder, because splits were read"
    tokenizers = tokenizer_paths(data_dir)
    return Source(
        train=train,
        test=others[-1],
        validation=others[0] if len(others) == 2 else None,
        task=Task((), metrics, target=sequences.target_vocabulary(tokenizers)),
        normalise=None,
        columns=columns,
        tokenizers=tokenizers,
    )


LOADERS: Mapping[str, Callable[..., Source]] = {
    "libreoffice_de_en": functools.partial(load, _TRANSLATION),
    "parallel_text": functools.partial(load, _TRANSLATION),
    "summaries": functools.partial(load, _SUMMARY),
}


def tokenizer_paths(folder: Path, prefix: str = "") -> tuple[Path, Path]:
    """Returns the files of the tokenizers of sources and targets, which need not exist."""
    return (
        folder / f"{prefix}source.tokenizer.json",
        folder / f"{prefix}target.tokenizer.json",
    )


def check_texts(table: tsv.Table) -> None:
    """Raises InputError if a text of the first two columns, source and translation, is empty."""
    for number, row in table.rows.items():
        if not row[0].strip() or not row[1].strip():
            raise InputError(
                f"{table.path}, line {number}: expected a source and a translation, got an empty"
                f" {'source' if not row[0].strip() else 'translation'}; remove the row"
            )


def check_disjoint(trained: tsv.Table, evaluated: Sequence[tsv.Table]) -> None:
    """Raises InputError if a pair to train on is also in the validation or test split.

    Args:
      trained: pairs to train on; the first two columns are source and translation.
      evaluated: the validation and test splits, likewise.
    """
    for table in evaluated:
        lines = {tuple(row[:2]): number for number, row in table.rows.items()}
        shared = {
            number: lines[row[0], row[1]]
            for number, row in trained.rows.items()
            if (row[0], row[1]) in lines
        }
        if shared:
            number, other = next(iter(shared.items()))
            more = len(shared) - 1
            raise InputError(
                f"{trained.path}, line {number}: expected no pair of {table.path.name}, got that of"
                f" its line {other}"
                + (f", and {more:,} more such rows; remove them" if more else "; remove the row")
            )


def _read_table(path: Path, columns: tuple[str, str]) -> tsv.Table:
    """Reads and checks the pairs of a file."""
    table = tsv.read(path, columns, equal_lengths=True)
    check_texts(table)
    return table
