"""Movie reviews, from the ratings in the source archive of the PyPI package vaderSentiment."""

import html
import random

from akd_jax.host.files import Path
from experiments.preparation import vader

_MOVIES = "movieReviewSnippets"


def prepare(data_dir: Path) -> None:
    """Downloads the archive and writes train.tsv, dev.tsv and test.tsv.

    Raises:
      InputError: the archive could not be downloaded.
    """
    write_movie_reviews(vader.ARCHIVE.download(), data_dir)


def write_movie_reviews(archive: bytes, data_dir: Path) -> None:
    """Writes train.tsv, dev.tsv and test.tsv from the mean ratings in vaderSentiment's archive.

    The sign of a sentence's rating gives its label: positive (1) or negative (0). Sentences with a
    rating from -0.5 to 0.5 are left out.
    """
    content = vader.read_ratings(archive, _MOVIES).decode("latin-1")
    lines = content.rstrip("\n").split("\n")
    labels = {}  # The last rating counts if a sentence occurs twice.
    for line in lines:
        _, rating, sentence = line.rstrip("\r").split("\t")
        if abs(float(rating)) > 0.5:
            sentence = html.unescape(sentence).replace("''", '"')
            labels[" ".join(sentence.split())] = int(float(rating) > 0)
    rows = sorted(labels.items())
    random.Random(0).shuffle(rows)
    data_dir.mkdir(parents=True, exist_ok=True)
    parts = {"dev": rows[:1000], "test": rows[1000:2000], "train": rows[2000:]}
    for split, part in parts.items():
        text = "sentence\tlabel\n" + "".join(f"{sentence}\t{label}\n" for sentence, label in part)
        (data_dir / f"{split}.tsv").write_text(text, encoding="utf-8", newline="\n")
