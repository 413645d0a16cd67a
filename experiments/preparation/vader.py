"""The sentences with ratings in the source archive of the PyPI package vaderSentiment.

Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014.
"""

import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from akd_jax.host.errors import InputError

_VADER = "vaderSentiment==0.5"
_VADER_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"


def download() -> bytes:
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
    check(content)
    return content


def check(archive: bytes) -> None:
    """Raises InputError if the source archive of vaderSentiment has an unknown checksum."""
    checksum = hashlib.sha256(archive).hexdigest()
    if checksum != _VADER_SHA256:
        raise InputError(
            f"{_VADER}: expected a source archive with SHA-256 {_VADER_SHA256}, got {checksum}; try"
            " another package index"
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
