"""Texts of several domains: their groups, their test splits, and missing files."""

import numpy as np
import pytest

from akd_jax import data
from akd_jax.data.settings import DatasetConfig
from akd_jax.host.errors import InputError
from tests.support.texts import write

ROWS = {
    "books": {"train": [("a", 1), ("b", 0)], "dev": [("c", 1)], "test": [("d", 0), ("e", 1)]},
    "games": {"train": [("f", 0)], "dev": [("g", 0), ("h", 1)], "test": [("i", 1)]},
}


def write_domains(folder, names=("games", "books")):
    for name in names:
        (folder / name).mkdir(parents=True)
        for split, rows in ROWS[name].items():
            write(folder / name / f"{split}.tsv", rows)


def load(folder, name="domains", **options):
    return data.load(DatasetConfig(name=name, data_dir=str(folder), validation_size=0, **options))


def texts(examples):
    return ["".join(row) for row in examples.inputs]


def test_domains_are_groups_and_have_test_splits(tmp_path):
    write_domains(tmp_path)
    dataset = load(tmp_path)
    train, validation, test = (dataset.splits[name] for name in ("train", "validation", "test"))
    assert dict(zip(texts(train), train.groups, strict=True)) == {
        "a": "books",
        "b": "books",
        "f": "games",
    }
    assert (texts(validation), validation.groups.tolist()) == (
        ["c", "g", "h"],
        ["books", "games", "games"],
    )
    assert texts(test) == ["d", "e", "i"]
    assert dataset.test_splits == ["test", "test_books", "test_games"]
    assert texts(dataset.splits["test_games"]) == ["i"]
    parts = {name: rows.tolist() for name, rows in dataset.test_parts.items()}
    assert parts == {"test_books": [0, 1], "test_games": [2]}
    assert dataset.task.labels == ("0", "1")
    assert load(tmp_path, "sentiment_domains").task.labels == ("negative", "positive")
    # The examples that are left out keep their groups.
    rest = load(tmp_path, train_size=1).splits["unlabelled"]
    assert len(rest) == len(rest.groups) == 2


def test_missing_domains_and_files_are_refused(tmp_path):
    write_domains(tmp_path, ["books"])
    with pytest.raises(InputError, match=r"subfolders of at least two domains .*, got books;"):
        load(tmp_path)
    write_domains(tmp_path, ["games"])
    (tmp_path / "games/dev.tsv").unlink()
    with pytest.raises(InputError, match=r"games/dev.tsv: expected a file, got none"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"config.dataset.data_dir: expected the folder"):
        data.load(DatasetConfig(name="domains"))


def test_groups_stay_with_their_examples():
    parts = [
        data.Examples(np.arange(2), np.zeros(2, np.int32), np.array(["x", "y"], object)),
        data.Examples(np.arange(1), np.zeros(1, np.int32), np.array(["z"], object)),
    ]
    both = data.dataset.concatenate(parts).take(np.array([2, 0]))
    assert both.groups.tolist() == ["z", "x"]
    parts[1] = data.Examples(np.arange(1), np.zeros(1, np.int32))
    assert data.dataset.concatenate(parts).groups is None
