"""Texts and their machine translations with scores, in TSV files; tokenizers of these texts."""

from collections.abc import Sequence

import numpy as np

from akd_jax.data.readers import tsv
from akd_jax.host.files import Path
from experiments.preparation import tokenizers

TEXTS, SCORE = ("source", "target"), "score"  # Columns.
UNLABELLED = "unlabelled"
_SCORED = ("train", "dev", "test")


def prepare(data_dir: Path, vocabulary_size: int) -> None:
    """Trains the tokenizers of a small student on the texts of train.tsv and unlabelled.tsv.

    Args:
      data_dir: a folder with train.tsv, dev.tsv and test.tsv, with the columns source, target and
        score. unlabelled.tsv, with the columns source and target, is optional.
      vocabulary_size: the largest number of tokens of each tokenizer.

    Raises:
      InputError: a file is missing or malformed, or the tokenizers cannot be written.
    """
    tables = [_read_scored(data_dir, name) for name in _SCORED]
    rows = [*tables[0].rows.values(), *_read_unlabelled(data_dir)]
    sources, targets = ([row[column] for row in rows] for column in range(2))
    tokenizers.train_tokenizers(data_dir, sources, targets, vocabulary_size)


def describe(data_dir: Path) -> str:
    """Returns the sizes of the splits and vocabularies, and mean and deviation of the scores.

    Raises:
      InputError: a file is missing or malformed, or a score is not a finite number.
    """
    # Without classes, the labels of the examples are numbers.
    labels = [tsv.examples(_read_scored(data_dir, name), {}).labels for name in _SCORED]
    counts = dict(zip(_SCORED, map(len, labels), strict=True))
    counts[UNLABELLED] = len(_read_unlabelled(data_dir))
    scores = np.concatenate(labels).astype(np.float64)
    sizes = tokenizers.vocabulary_sizes(data_dir)
    return (
        f"pairs: {', '.join(f'{count:,} {name}' for name, count in counts.items())}; scores: mean"
        f" {scores.mean():.3f}, standard deviation {scores.std():.3f}; vocabularies:"
        f" {', '.join(f'{size:,} tokens of {name}' for name, size in sizes.items())}"
    )


def _read_scored(data_dir: Path, name: str) -> tsv.Table:
    return tsv.read(data_dir / f"{name}.tsv", [*TEXTS, SCORE])


def _read_unlabelled(data_dir: Path) -> Sequence[Sequence[str]]:
    """Returns the rows of unlabelled.tsv, which is optional."""
    path = data_dir / f"{UNLABELLED}.tsv"
    return list(tsv.read(path, TEXTS).rows.values()) if path.exists() else []
