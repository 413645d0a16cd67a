"""Spoken commands in the layout of Fluent Speech Commands, read as codes and transcriptions.

The data set (Lugosch et al., 2019, https://arxiv.org/abs/1904.03670) has one CSV file per split,
whose rows name a recording, its speaker, its transcription, and the three slots of its intent:
action, object and location. The codes of the recordings are in codes.tsv, which
`experiments.prepare` writes; the recordings themselves are not read.
"""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from akd_jax.data.dataset import Examples, Source
from akd_jax.data.readers import tsv
from akd_jax.data.speech import codebook
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import UNLABELLED, Task

CODES = "codes.tsv"
CODEBOOK = "codebook.npz"
CODES_COLUMNS = ("path", "codes")
_TEXTS = ("path", "transcription")
_INTENT = ("action", "object", "location")
_SUFFIX = "_data.csv"
_PRETRAIN = "pretrain"


def load(data_dir: Path | None) -> Source:
    """Reads spoken commands and their intents.

    The folder, or its subfolder `data`, has the files train_data.csv, valid_data.csv and
    test_data.csv with the columns path, transcription, action, object and location; other columns
    are ignored. It can have test_NAME_data.csv for additional test splits `test_NAME`, and
    pretrain_data.csv, whose rows have no intent. The folder itself has codes.tsv with the columns
    path and codes. The codes of a recording are numbers of a codebook, or pairs I-J of
    vq-wav2vec, with spaces between them.

    An intent is written 'action object location'. The classes are the sorted intents of
    train_data.csv.

    Raises:
      InputError: a file or a column is missing, a row has an intent that no training example has,
        a recording has no codes, or its codes are not in codebook.npz.
    """
    if data_dir is None:
        raise InputError(
            "config.dataset.data_dir: expected the folder of the CSV files, got none; set it"
        )
    tables = read_tables(data_dir)
    codes = _read_codes(data_dir)
    labels = _intents(tables["train"])
    splits = {
        name: Examples(
            _inputs(table, codes, data_dir),
            np.full(len(table.rows), UNLABELLED, np.int32)
            if name == _PRETRAIN
            else _labels(table, labels),
        )
        for name, table in tables.items()
    }
    return Source(
        train=splits.pop("train"),
        validation=splits.pop("valid"),
        test=splits.pop("test"),
        unlabelled=splits.pop(_PRETRAIN, None),
        others=splits,
        task=Task(tuple(labels)),
        normalise=None,
        columns=("codes", "transcription"),
        kinds=("codes", "text"),
    )


def read_tables(data_dir: Path) -> dict[str, tsv.Table]:
    """Returns the rows of each CSV file of a data set, by the name of the split.

    A row has the path of the recording and the transcription, and except in pretrain_data.csv
    also action, object and location.

    Raises:
      InputError: a file or a column is missing, or a file has no rows.
    """
    nested = data_dir / "data"  # Fluent Speech Commands has its CSV files here.
    folder = nested if (nested / f"train{_SUFFIX}").exists() else data_dir
    others = (path.name.removesuffix(_SUFFIX) for path in folder.glob(f"test_*{_SUFFIX}"))
    names = ["train", "valid", "test", *sorted(others)]
    if (folder / f"{_PRETRAIN}{_SUFFIX}").exists():
        names.append(_PRETRAIN)
    return {
        name: read_csv(
            folder / f"{name}{_SUFFIX}", _TEXTS if name == _PRETRAIN else _TEXTS + _INTENT
        )
        for name in names
    }


def read_csv(path: Path, columns: Sequence[str]) -> tsv.Table:
    """Returns the named columns of a CSV file, in this order.

    Raises:
      InputError: the file is missing, not UTF-8 or has no rows, or a column or a cell is missing.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(
                f"{path}, line 1: expected a header with {', '.join(columns)}, got no"
                f" {missing[0]!r} in {','.join(reader.fieldnames or [])[:80]!r}; correct the header"
            )
        # A quoted cell can contain line breaks; line_num is the last line of a row.
        rows = {}
        for row in reader:
            rows[reader.line_num] = [row[name] for name in columns]
    except FileNotFoundError:
        raise InputError(
            f"{path}: expected a file, got none; check the path, or config.dataset.data_dir"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected a CSV file in UTF-8, got: {error}; convert it"
        ) from None
    for number, cells in rows.items():
        if None in cells:
            raise InputError(
                f"{path}, line {number}: expected as many cells as the header has, got fewer;"
                " correct the row"
            )
    if not rows:
        raise InputError(f"{path}: expected rows, got only a header; add examples")
    return tsv.Table(path, rows)


def _read_codes(data_dir: Path) -> dict[str, str]:
    """Returns the codes of each recording, by its path; checks that the codebook has them."""
    path = data_dir / CODES
    if not path.exists():
        raise InputError(
            f"{path}: expected the codes of the recordings, got no file; run python -m"
            f" experiments.prepare --dataset=speech_commands_csv --data_dir={data_dir}"
        )
    table = tsv.read(path, CODES_COLUMNS)
    known = None
    if (data_dir / CODEBOOK).exists():
        known = {str(code) for code in range(len(codebook.load(data_dir / CODEBOOK)))}
    for number, (recording, words) in table.rows.items():
        used = set(words.split())
        unknown = sorted(used - known) if known is not None else []
        if not used or unknown:
            expected = f"codes from 0 to {len(known) - 1} of {CODEBOOK}" if known else "codes"
            raise InputError(
                f"{path}, line {number}: expected {expected} for {recording}, got"
                f" {repr(unknown[0]) if unknown else 'none'}; delete the line and run"
                " experiments.prepare"
            )
    return {row[0]: row[1] for row in table.rows.values()}


def _intents(train: tsv.Table) -> Mapping[str, int]:
    """Returns the class index of each intent of the training split."""
    intents = sorted({_intent(row) for row in train.rows.values()})
    if len(intents) < 2 or "" in intents:
        raise InputError(
            f"{train.path}: expected at least two different intents and no empty one, got"
            f" {', '.join(map(repr, intents[:3]))}; correct action, object and location"
        )
    return {intent: index for index, intent in enumerate(intents)}


def _intent(row: Sequence[str]) -> str:
    return " ".join(" ".join(row[len(_TEXTS) :]).split())


def _labels(table: tsv.Table, labels: Mapping[str, int]) -> np.ndarray:
    for number, row in table.rows.items():
        if _intent(row) not in labels:
            raise InputError(
                f"{table.path}, line {number}: expected one of the {len(labels)} intents of"
                f" train{_SUFFIX}, got {_intent(row)!r}; remove the row, or add training examples"
            )
    return np.array([labels[_intent(row)] for row in table.rows.values()], np.int32)


def _inputs(table: tsv.Table, codes: Mapping[str, str], data_dir: Path) -> np.ndarray:
    """Returns the codes and the transcription of each row as str, [N, 2]."""
    for number, (recording, *_) in table.rows.items():
        if recording not in codes:
            raise InputError(
                f"{table.path}, line {number}: expected the codes of {recording} in {CODES}, got"
                " none; run python -m experiments.prepare --dataset=speech_commands_csv"
                f" --data_dir={data_dir}"
            )
    rows = [(codes[recording], text) for recording, text, *_ in table.rows.values()]
    return np.array(rows, object)
