"""Translation quality estimation: pairs of a source and its translation, each with a score."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
from pydantic import Field

from akd_jax.data.dataset import Examples, Source
from akd_jax.data.readers import parallel, tsv
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import Task

_METRICS = ("pearson", "spearman", "mae", "rmse")
_UNLABELLED = "unlabelled.tsv"
_MLQE_SPLITS = ("train", "dev", "test20")


class PairOptions(parallel.TextColumns):
    """The columns of translations with scores."""

    score_column: str = Field(
        default="",
        description="Column of the scores; empty for 'score', or 'z_mean' in MLQE-PE, which also"
        " has 'mean'.",
    )
    language_pair: str = Field(
        default="",
        description="Pair of languages, such as ro-en: of MLQE-PE, and in predictions for WMT.",
    )


def load(data_dir: Path | None, options: PairOptions) -> Source:
    """Reads train.tsv, dev.tsv, test.tsv and, if it exists, unlabelled.tsv from a folder.

    The files have a header and no quoting. With only one of dev.tsv and test.tsv, that one is the
    test split, and the validation split is held out of train.tsv.

    Args:
      data_dir: the folder.
      options: the names of the columns.

    Raises:
      InputError: a file is missing or malformed, a text is empty, a score is no finite number, all
        scores of train.tsv are equal, or an unlabelled pair is also in dev.tsv or test.tsv.
    """
    paths = tsv.split_paths(data_dir)
    tsv.check_split_paths(paths)
    columns = parallel.column_names(options)
    return _source(paths, columns, options.score_column or "score")


def load_mlqe_pe(data_dir: Path | None, options: PairOptions) -> Source:
    """Reads the direct assessments of MLQE-PE for a pair of languages.

    The files have the published names, such as train.roen.df.short.tsv, dev.roen.df.short.tsv and
    test20.roen.df.short.tsv. They are in the folder, in a subfolder such as `ro-en`, `train` or
    `train/ro-en`. A file unlabelled.tsv beside the training file has further pairs, in the same
    columns and without scores.

    Source: Fomicheva et al., "MLQE-PE: A Multilingual Quality Estimation and Post-Editing Dataset",
    LREC 2022, https://arxiv.org/abs/2010.04480.

    Args:
      data_dir: the folder.
      options: the pair of languages and the names of the columns.

    Raises:
      InputError: there is no such pair; and see `load`.
    """
    pair = options.language_pair
    if data_dir is None or not pair:
        missing = "data_dir" if data_dir is None else "language_pair"
        raise InputError(
            f"config.dataset.{missing}: expected the folder of MLQE-PE and a pair of languages such"
            " as ro-en, got none; set it"
        )
    paths = [_mlqe_file(data_dir, pair, split) for split in _MLQE_SPLITS]
    columns = parallel.column_names(options, ("original", "translation"))
    prefix = f"{pair.replace('-', '')}."
    return _source(paths, columns, options.score_column or "z_mean", prefix)


LOADERS: Mapping[str, Callable[[Path | None, PairOptions], Source]] = {
    "mlqe_pe": load_mlqe_pe,
    "mt_quality": load,
    "scored_pairs": load,
}


def _load_by_default(name: str, data_dir: Path | None) -> Source:
    """Reads a data set with the default options."""
    return LOADERS[name](data_dir, PairOptions())


DEFAULT_LOADERS = {name: functools.partial(_load_by_default, name) for name in LOADERS}


def _mlqe_file(folder: Path, pair: str, split: str) -> Path:
    """Returns the file of a split of MLQE-PE."""
    name = f"{split}.{pair.replace('-', '')}.df.short.tsv"
    subfolder = split.rstrip("0123456789")
    for place in (folder, folder / pair, folder / subfolder, folder / subfolder / pair):
        if (place / name).exists():
            return place / name
    raise InputError(
        f"{folder}: expected {name} of MLQE-PE in it or in {subfolder}/{pair}, got no such file;"
        " correct config.dataset.data_dir or config.dataset.language_pair"
    )


def _source(paths: list[Path], columns: tuple[str, str], score: str, prefix: str = "") -> Source:
    """Reads the splits; unlabelled.tsv and the tokenizers are beside the training file.

    Args:
      paths: the files of train, validation and test; or of train and test.
      columns: the columns of the texts.
      score: the column of the scores.
      prefix: the beginning of the names of the tokenizers' files.
    """
    folder = paths[0].parent
    tables = [tsv.read(path, [*columns, score]) for path in paths]
    for table in tables:
        parallel.check_texts(table)
    splits = [tsv.examples(table, {}) for table in tables]
    low, high = (float(bound(splits[0].labels)) for bound in (np.min, np.max))
    if low == high:
        raise InputError(
            f"{paths[0]}: expected at least two different scores, got only {low:g}; correct the"
            f" column {score}"
        )
    # Only the training split defines the scale: the others must not influence the training.
    scaled = [Examples(x.inputs, (x.labels - low) / np.float32(high - low)) for x in splits]
    unlabelled = None
    if (folder / _UNLABELLED).exists():
        table = tsv.read(folder / _UNLABELLED, columns)
        parallel.check_texts(table)
        parallel.check_disjoint(table, tables[1:])
        texts = tsv.texts(table)
        unlabelled = Examples(texts, np.full(len(texts), np.nan, np.float32))
    return Source(
        train=scaled[0],
        test=scaled[-1],
        validation=scaled[1] if len(scaled) == 3 else None,
        task=Task((), _METRICS, scale=(low, high - low)),
        normalise=None,
        columns=columns,
        unlabelled=unlabelled,
        tokenizers=parallel.tokenizer_paths(folder, prefix),
    )
