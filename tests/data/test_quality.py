"""Translations with scores: TSV files, the files of MLQE-PE, and what is wrong in them."""

import numpy as np
import pytest

from akd_jax import data
from akd_jax.data.dataset import UNLABELLED_SPLIT
from akd_jax.data.settings import DatasetConfig
from akd_jax.host.errors import InputError
from tests.support.quality import HEADER
from tests.support.texts import write

TRAIN = [("a b", "x", "20"), ("c", "y z", "-60"), ('say "no', 'di "no', "140")]
DEV = [("d", "w", "40")]
TEST = [("e", "v", "240"), ("f", "u", "-160")]


def write_splits(folder, header=HEADER, **changed):
    folder.mkdir(exist_ok=True)
    rows = {"train": TRAIN, "dev": DEV, "test": TEST, **changed}
    for name, split in rows.items():
        write(folder / f"{name}.tsv", split, header[: len(split[0])])


def load(folder, **options):
    options = {"name": "scored_pairs", "validation_size": 0, **options}
    return data.load(DatasetConfig(data_dir=str(folder), **options))


def refuse(folder, message, **options):
    with pytest.raises(InputError, match=message) as error:
        load(folder, **options)
    assert "\n" not in str(error.value)


def test_scores_are_scaled_by_the_training_split_alone(tmp_path):
    write_splits(tmp_path)
    dataset = load(tmp_path)
    train, test = dataset.splits["train"], dataset.splits["test"]
    order = [
        TRAIN.index((*texts, f"{score:g}"))
        for texts, score in zip(
            train.inputs.tolist(), dataset.task.unscale(train.labels), strict=True
        )
    ]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(train.labels, np.float32([0.4, 0, 1])[order])
    # Values outside of the training scores leave the interval from 0 to 1.
    np.testing.assert_allclose(test.labels, [1.5, -0.5])
    np.testing.assert_allclose(dataset.splits["validation"].labels, [0.5])
    assert test.inputs.tolist() == [["e", "v"], ["f", "u"]]
    assert dataset.task.regression
    assert dataset.task.metrics == ("pearson", "spearman", "mae", "rmse")
    assert dataset.task.format_prediction(0.5) == "40.000000"
    assert UNLABELLED_SPLIT not in dataset.splits


def test_columns_can_have_other_names_and_quotes_are_characters(tmp_path):
    write_splits(tmp_path, ("original", "mt", "z"))
    dataset = load(tmp_path, source_column="original", target_column="mt", score_column="z")
    assert dataset.columns == ("original", "mt")
    assert ['say "no', 'di "no'] in dataset.splits["train"].inputs.tolist()


def test_unlabelled_pairs_are_a_split_of_their_own(tmp_path):
    write_splits(tmp_path, unlabelled=[("g", "t"), ("h", "s")])
    dataset = load(tmp_path, unlabelled_size=2)
    unlabelled = dataset.splits[UNLABELLED_SPLIT]
    assert unlabelled.inputs.tolist() == [["g", "t"], ["h", "s"]]
    assert np.isnan(unlabelled.labels).all()
    assert unlabelled.labels.dtype == np.float32
    # Training pairs that are left out lose their scores and come first.
    dataset = load(tmp_path, train_size=1)
    inputs = dataset.splits[UNLABELLED_SPLIT].inputs.tolist()
    assert inputs[2:] == [["g", "t"], ["h", "s"]]
    assert len(inputs) == 4
    assert np.isnan(dataset.splits[UNLABELLED_SPLIT].labels).all()
    refuse(
        tmp_path,
        r"config.dataset.unlabelled_size: expected at most 2, the number of unlabelled examples of"
        r" scored_pairs, got 3; reduce it",
        unlabelled_size=3,
    )


@pytest.mark.parametrize("place", ["", "ro-en", "SPLIT", "SPLIT/ro-en"])
def test_published_files_of_mlqe_pe(tmp_path, place):
    header = ("index", "original", "translation", "scores", "mean", "z_scores", "z_mean", "model")
    for split, count in (("train", 3), ("dev", 1), ("test20", 2)):
        folder = tmp_path / place.replace("SPLIT", split.rstrip("20"))
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            (i, f'{split} "{i}', f"mt {i}", "[70, 80.5]", 10 * i, "[-0.2, 1]", -0.5 * i, 0)
            for i in range(count)
        ]
        write(folder / f"{split}.roen.df.short.tsv", rows, header)
    options = {"name": "mlqe_pe", "language_pair": "ro-en"}
    dataset = load(tmp_path, **options)
    assert dataset.task.scale == (-1.0, 1.0)
    test = dataset.splits["test"]
    assert test.inputs.tolist() == [['test20 "0', "mt 0"], ['test20 "1', "mt 1"]]
    np.testing.assert_allclose(dataset.task.unscale(test.labels), [0, -0.5])
    assert dataset.columns == ("original", "translation")
    assert load(tmp_path, score_column="mean", **options).task.scale == (0.0, 20.0)
    refuse(
        tmp_path,
        r"expected train.eten.df.short.tsv of MLQE-PE",
        **options | {"language_pair": "et-en"},
    )
    refuse(tmp_path, "config.dataset.language_pair: expected", name="mlqe_pe")


@pytest.mark.parametrize(
    ("split", "rows", "message"),
    [
        ("train", [("a", "b", "good"), *TRAIN], r"train.tsv, line 2: expected a finite number"),
        ("dev", [*DEV, ("a", "b", "nan")], r"dev.tsv, line 3: expected a finite number .*'nan'"),
        ("test", [*TEST, ("a", "b", "-inf")], r"test.tsv, line 4: expected a finite number"),
        ("test", [("a", "b", "1"), ("c", "d")], r"test.tsv, line 3: expected at least 3 columns"),
        ("train", [("a", " ", "1"), *TRAIN], r"train.tsv, line 2: .*, got an empty translation"),
        ("dev", [("", "b", "1")], r"dev.tsv, line 2: .*, got an empty source; remove the row"),
        ("train", [("a", "b", "7"), ("c", "d", "7")], r"two different scores, got only 7"),
        ("unlabelled", [("a", "b"), ("e", "v")], r"unlabelled.tsv, line 3: .* no pair of test.tsv"),
        ("unlabelled", [("d", "w")], r"line 2: .* no pair of dev.tsv, got that of its line 2"),
        ("unlabelled", [("d", "")], r"unlabelled.tsv, line 2: .* an empty translation"),
    ],
)
def test_wrong_rows_are_refused_in_one_line(tmp_path, split, rows, message):
    write_splits(tmp_path, **{split: rows})
    refuse(tmp_path, message)


def test_missing_files_and_columns_are_refused(tmp_path):
    refuse(tmp_path, "expected dev.tsv or test.tsv beside train.tsv, got neither")
    write_splits(tmp_path, ("source", "mt", "score"))
    refuse(tmp_path, r"train.tsv, line 1: expected a header with source, target, score, got no 't")
    with pytest.raises(InputError, match=r"config.dataset.data_dir: expected the folder"):
        data.load(DatasetConfig(name="scored_pairs"))


def test_without_dev_the_validation_split_is_held_out(tmp_path):
    write_splits(tmp_path)
    (tmp_path / "dev.tsv").unlink()
    dataset = load(tmp_path, validation_size=1)
    assert len(dataset.splits["train"]) == 2
    assert len(dataset.splits["validation"]) == 1
