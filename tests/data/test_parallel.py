"""Pairs of a text and its translation in TSV files, and what is wrong in them."""

import numpy as np
import pytest

from akd_jax.data.readers import parallel, quality
from akd_jax.data.settings import DatasetConfig
from tests.support.errors import error_of
from tests.support.texts import write

COLUMNS = ("source", "target")
TRAIN = [("Guten Tag", "Good day"), ('Sag "nein', 'Say "no'), ("Wie geht's?", "How are you?")]
DEV = [("Ein Baum", "A tree")]
TEST = [("Ein Haus", "A house"), ("Zwei Häuser", "Two houses")]


def write_splits(folder, header=COLUMNS, **changed):
    rows = {"train": TRAIN, "dev": DEV, "test": TEST, **changed}
    for name, split in rows.items():
        write(folder / f"{name}.tsv", split, header)
    return folder


def test_splits_are_arrays_of_texts(tmp_path):
    splits = parallel.load_splits(write_splits(tmp_path), COLUMNS)
    assert list(splits) == ["train", "dev", "test"]
    for name, rows in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        assert splits[name].shape == (len(rows), 2)
        assert splits[name].tolist() == [list(row) for row in rows]
        assert all(type(text) is str for text in splits[name].flat)
        np.testing.assert_array_equal(
            parallel.read_pairs(tmp_path / f"{name}.tsv", COLUMNS), splits[name]
        )


def test_columns_have_any_names_order_and_neighbours(tmp_path):
    write(tmp_path / "a.tsv", [("1", "b c", "x", "a")], ("id", "en", "note", "de"))
    assert parallel.read_pairs(tmp_path / "a.tsv", ("de", "en")).tolist() == [["a", "b c"]]
    assert parallel.read_pairs(tmp_path / "a.tsv", ("en", "de")).tolist() == [["b c", "a"]]


@pytest.mark.parametrize(
    "options", [parallel.TextColumns, quality.PairOptions, DatasetConfig], ids=lambda x: x.__name__
)
def test_names_of_columns_are_fields_of_the_configuration(options):
    assert parallel.column_names(options()) == COLUMNS
    assert parallel.column_names(options(target_column="en"), ("de", "fr")) == ("de", "en")
    assert parallel.column_names(options(source_column="de")) == ("de", "target")


@pytest.mark.parametrize("name", ["dev", "test"])
def test_dev_or_test_can_be_missing(tmp_path, name):
    (write_splits(tmp_path) / f"{name}.tsv").unlink()
    assert set(parallel.load_splits(tmp_path, COLUMNS)) == {"train", "dev", "test"} - {name}


def test_windows_files_are_read(tmp_path):
    content = "\ufeffsource\ttarget\r\nä b\tc\r\nd\te f\r\n\r\n".encode()
    (tmp_path / "a.tsv").write_bytes(content)
    pairs = parallel.read_pairs(tmp_path / "a.tsv", COLUMNS)
    assert pairs.tolist() == [["ä b", "c"], ["d", "e f"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("de\ten\na\tb\n", ", line 1: expected a header with source, target, got no 'source' in"),
        ("source\ttargets\na\tb\n", ", line 1: expected a header with source, target, got no 'tar"),
        ("source target\na\tb\n", ", line 1: expected a header with source, target, got no 'sou"),
        ("source\ttarget\na\tb\nc d\n", ", line 3: expected at least 2 columns separated by tabs"),
        (
            "source\ttarget\na\tb\nc\td\te\n",
            ", line 3: expected 2 columns separated by tabs, as in line 1, got 3: 'c\\td\\te'; c",
        ),
        (
            "source\ttarget\tid\na\tb\tc\nd\te\n",
            ", line 3: expected 3 columns separated by tabs, as in line 1, got 2: 'd\\te'; correct",
        ),
        ("source\ttarget\n\na\tb\n", ", line 2: expected at least 2 columns"),
        ("source\ttarget\na\tb\n\tc\n", ", line 3: expected a source and a translation, got an em"),
        ("source\ttarget\na\t \n", ", line 2: expected a source and a translation, got an empty t"),
        ("source\ttarget\n", ": expected rows, got only a header; add examples"),
        ("", ": expected a header and rows, got an empty file"),
        (
            "source\ttarget\na\tb\nCafé\tc\n".encode("latin-1"),
            ", line 3: expected a text file in UTF-8, got: ",
        ),
        (None, ": expected a file, got none; check the path"),
    ],
)
def test_malformed_files_are_refused(tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert error_of(parallel.read_pairs, path, COLUMNS).startswith(f"{path}{message}")


def test_missing_splits_are_refused(tmp_path):
    message = error_of(parallel.load_splits, None, COLUMNS)
    assert message.startswith(
        "config.dataset.data_dir: expected the folder of the TSV files, got n"
    )
    message = error_of(parallel.load_splits, tmp_path, COLUMNS)
    assert message.startswith(f"{tmp_path / 'train.tsv'}: expected a file, got none")
    write(tmp_path / "train.tsv", TRAIN, COLUMNS)
    message = error_of(parallel.load_splits, tmp_path, COLUMNS)
    assert message.startswith(f"{tmp_path}: expected dev.tsv or test.tsv beside train.tsv, got nei")


@pytest.mark.parametrize("name", ["dev", "test"])
def test_pairs_of_dev_or_test_in_train_are_refused_and_counted(tmp_path, name):
    new = ("Neu", "New")
    start = f"{tmp_path / 'train.tsv'}, line 3: expected no pair of {name}.tsv, got that of its"
    write_splits(tmp_path, **{name: [new, TRAIN[1]]})
    message = error_of(parallel.load_splits, tmp_path, COLUMNS)
    assert message == f"{start} line 3; remove the row"
    write_splits(tmp_path, **{name: [TRAIN[2], new, new, TRAIN[1]], "train": [*TRAIN, TRAIN[1]]})
    message = error_of(parallel.load_splits, tmp_path, COLUMNS)
    assert message == f"{start} line 5, and 2 more such rows; remove them"


def test_texts_of_a_test_pair_with_another_translation_are_allowed(tmp_path):
    same_source, same_target = (TRAIN[0][0], "Hello"), ("Hallo", TRAIN[0][1])
    exchanged = (TRAIN[0][1], TRAIN[0][0])
    write_splits(tmp_path, test=[same_source, same_target, exchanged])
    assert len(parallel.load_splits(tmp_path, COLUMNS)["test"]) == 3
