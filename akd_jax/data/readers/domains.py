"""Texts of several domains, each in a folder with train.tsv, dev.tsv and test.tsv."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from akd_jax.data.dataset import Examples, Source, concatenate, test_split
from akd_jax.data.readers import tsv
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import Task

SENTIMENT = {"0": "negative", "1": "positive"}  # Maps the labels in the files to classes.
SPLITS = ("train", "dev", "test")


def load(data_dir: Path | None, labels: Mapping[str, str] | None = None) -> Source:
    """Reads a classification task from the subfolders of a folder, a domain each.

    Each subfolder has train.tsv, dev.tsv and test.tsv, with the columns of `tsv.load`. The domain
    is the group of an example. The test split has the examples of all domains, and each domain has
    a test split, test_DOMAIN.

    Args:
      data_dir: the folder.
      labels: maps the labels in the files to the names of the classes; None for the labels of the
        training files themselves.

    Raises:
      InputError: there are no two such subfolders, or a file is missing or malformed.
    """
    if data_dir is None:
        raise InputError(
            "config.dataset.data_dir: expected the folder of the domains, got none; set it"
        )
    names = sorted(path.parent.name for path in data_dir.glob("*/train.tsv"))
    if len(names) < 2:
        raise InputError(
            f"{data_dir}: expected subfolders of at least two domains with train.tsv, dev.tsv and"
            f" test.tsv, got {', '.join(names) or 'none'}; correct config.dataset.data_dir"
        )
    columns = tsv.text_columns(data_dir / names[0] / "train.tsv")
    read = functools.partial(read_domain, data_dir, (*columns, tsv.LABEL))
    tables = {name: read(name) for name in names}
    labels = labels or tsv.classes([table["train"] for table in tables.values()])
    domains = {
        name: {split: with_group(tsv.examples(table, labels), name) for split, table in x.items()}
        for name, x in tables.items()
    }
    train, dev, test = (concatenate([x[split] for x in domains.values()]) for split in SPLITS)
    return Source(
        train=train,
        test=test,
        validation=dev,
        task=Task(tuple(labels.values()), codes=tuple(labels)),
        normalise=None,
        others={test_split(name): splits["test"] for name, splits in domains.items()},
        columns=columns,
    )


def load_sentiment(data_dir: Path | None) -> Source:
    """Reads sentences of reviews, tweets and editorials with the labels negative and positive.

    The labels come from the ratings published with VADER (Hutto and Gilbert, ICWSM 2014).
    `experiments.prepare` writes the files.
    """
    return load(data_dir, SENTIMENT)


def read_domain(data_dir: Path, columns: Sequence[str], name: str) -> dict[str, tsv.Table]:
    """Reads the files of a subfolder, by the names of SPLITS."""
    return {split: tsv.read(data_dir / name / f"{split}.tsv", columns) for split in SPLITS}


def with_group(examples: Examples, group: str) -> Examples:
    """Returns examples that all belong to one group."""
    return Examples(examples.inputs, examples.labels, np.full(len(examples), group, object))
