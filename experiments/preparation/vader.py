"""The sentences with ratings in the source archive of the PyPI package vaderSentiment.

Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014.
"""

import io
import pathlib
import tarfile
import zipfile

from experiments.preparation import pypi

ARCHIVE = pypi.Archive(
    "vaderSentiment==0.5",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    source=True,
)


def read_ratings(archive: bytes, name: str) -> bytes:
    """Returns one of the files with ratings: a line has a number, the rating and a sentence.

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
            return file.read()
