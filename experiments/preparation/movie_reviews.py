"""Movie reviews, from the ratings in the source archive of the PyPI package vaderSentiment."""

import hashlib
import html
import io
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from akd_jax.host.errors import InputError
from akd_jax.host.files import Path

_VADER = "vaderSentiment==0.5"
_VADER_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_MOVIES = "movieReviewSnippets"


def prepare(data_dir: Path) -> None:
    """Downloads the archive and writes train.tsv, dev.tsv and test.tsv.

    Raises:
      InputError: the archive could not be downloaded.
    """
    write_movie_reviews(download_vader(), data_dir)


def download_vader() -> bytes:
    """Downloads the source archive of vaderSentiment 0.5 with pip; returns its bytes.

    Raises:
      InputError: pip could not download it, or its checksum is unknown.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary=:all:", f"--dest={folder}", _VADER]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(pathlib.Path(folder).glob("*.zip"))
        if process.returncode or not archives:
            reason = (process.stderr.strip() or "no archive").splitlines()[-1]
            raise InputError(
                f"{_VADER}: expected pip to download its source archive, got: {reason}; check the"
                " network or pip's index"
            )
        content = archives[0].read_bytes()
    check_vader(content)
    return content


def check_vader(archive: bytes) -> None:
    """Raises InputError if the source archive of vaderSentiment has an unknown checksum."""
    checksum = hashlib.sha256(archive).hexdigest()
    if checksum != _VADER_SHA256:
        raise InputError(
            f"{_VADER}: expected a source archive with SHA-256 {_VADER_SHA256}, got {checksum}; try"
            " another package index"
        )


def write_movie_reviews(archive: bytes, data_dir: Path) -> None:
    """Writes train.tsv, dev.tsv and test.tsv from the mean ratings in vaderSentiment's archive.

    The sign of a sentence's rating gives its label: positive (1) or negative (0). Sentences with a
    rating from -0.5 to 0.5 are left out.
    """
    lines = read_ratings(archive, _MOVIES)
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


def read_ratings(archive: bytes, name: str) -> list[str]:
    """Returns the lines of one of the files with ratings: a number, the rating and a sentence.

    Args:
      archive: the source archive of vaderSentiment.
      name: the kind of sentences, such as 'movieReviewSnippets'.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        (ratings,) = (n for n in packed.namelist() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(packed.read(ratings))) as files:
            (member,) = (
                m
                for m in files.getmembers()
                if pathlib.PurePosixPath(m.name).name == f"{name}_GroundTruth.txt"
            )
            file = files.extractfile(member)
            assert file is not None, "expected a file"
            return file.read().decode("latin-1").rstrip("\n").split("\n")
