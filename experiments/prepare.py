"""Prepares a data set: downloads its files and checks them.

python -m experiments.prepare --dataset=cifar10 --data_dir=DIR

If TensorFlow is installed, tensorflow-datasets prepares CIFAR-10 and CIFAR-100; otherwise their
official binary archives are downloaded. The movie reviews are built from the ratings in the source
archive of the PyPI package vaderSentiment 0.5. Files that already exist are only checked.
"""

import hashlib
import html
import importlib.util
import io
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping

from absl import flags

from akd_jax.data import Source
from akd_jax.data.readers import cifar, idx, tsv
from akd_jax.host import records
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from experiments import cli, options

_DATASET = flags.DEFINE_string(
    "dataset", None, "Data set: 'cifar10', 'cifar100', 'fashion_mnist' or 'movie_reviews'."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data set.")

_READERS: Mapping[str, Callable[[Path], Source]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "fashion_mnist": idx.load,
    "movie_reviews": tsv.load_movie_reviews,
}
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_VADER = "vaderSentiment==0.5"
_VADER_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_VADER_RATINGS = "movieReviewSnippets_GroundTruth.txt"
_TIMEOUT = 20  # Seconds to wait for an answer from the network.


def prepare_dataset(dataset: str, data_dir: Path) -> str:
    """Prepares a data set in a folder; returns a line that describes the result.

    Raises:
      InputError: the data set is unknown or could not be downloaded. The message names the file
        to download by hand and the folder to put it into.
    """
    if dataset not in _READERS:
        raise InputError(
            f"--dataset: expected one of {', '.join(_READERS)}, got {dataset!r}; digits need no"
            " preparation"
        )
    records.check_writable(data_dir)
    try:
        source = _READERS[dataset](data_dir)
    except InputError:  # The files are missing or incomplete.
        if dataset == "fashion_mnist":
            # Fashion-MNIST has no official checksums, but gzip contains one, and the reader
            # checks the sizes.
            files = {f"{name}.gz": None for names in idx.FILES.values() for name in names}
            _download(FASHION_MNIST_URL, files, data_dir)
        elif dataset == "movie_reviews":
            archive = _download_vader()
            check_vader(archive)
            write_movie_reviews(archive, data_dir)
        elif importlib.util.find_spec("tensorflow"):
            _prepare_with_tfds(dataset, data_dir)
        else:
            cifar_archive = cifar.ARCHIVES[dataset]
            _download(CIFAR_URL, {cifar_archive.file: cifar_archive.md5}, data_dir)
        source = _READERS[dataset](data_dir)
    return (
        f"{dataset} is ready in {data_dir}: {len(source.train):,} training and"
        f" {len(source.test):,} test examples"
    )


def _download(url: str, files: Mapping[str, str | None], data_dir: Path) -> None:
    """Downloads the files that do not exist yet, and checks every file.

    Args:
      url: the address that a file's name is appended to.
      files: names, and for each its MD5 checksum, or None to skip the check.
      data_dir: folder of the files.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        path = data_dir / name
        if not path.exists():
            partial = path.with_suffix(".part")
            try:
                with (
                    urllib.request.urlopen(url + name, timeout=_TIMEOUT) as response,
                    partial.open("wb") as file,
                ):
                    shutil.copyfileobj(response, file)
            except (urllib.error.URLError, OSError) as error:
                partial.unlink(missing_ok=True)
                raise InputError(
                    f"{url}{name} cannot be downloaded ({getattr(error, 'reason', error)});"
                    f" download it on another machine and put it into {data_dir}"
                ) from None
            partial.replace(path)
        checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if expected is not None and checksum != expected:
            raise InputError(
                f"{path}: expected a file with MD5 {expected}, got {checksum}; delete it and run"
                " again"
            )


def _download_vader() -> bytes:
    """Downloads the source archive of vaderSentiment 0.5 with pip, and returns its bytes."""
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
        return archives[0].read_bytes()


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
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(packed.read(name))) as ratings:
            (member,) = (
                m
                for m in ratings.getmembers()
                if pathlib.PurePosixPath(m.name).name == _VADER_RATINGS
            )
            file = ratings.extractfile(member)
            assert file is not None, "expected a file"
            lines = file.read().decode("latin-1").rstrip("\n").split("\n")
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


def _prepare_with_tfds(dataset: str, data_dir: Path) -> None:
    tfds = require("tensorflow_datasets", "images")

    try:
        builder = tfds.builder(dataset, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # Downloads and TensorFlow raise errors of many types.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        archive = cifar.ARCHIVES[dataset].file
        raise InputError(
            f"tensorflow-datasets cannot prepare {dataset} ({reason}); download"
            f" {CIFAR_URL}{archive} on another machine and put it into {data_dir}"
        ) from None


def main() -> None:
    """Prepares the data set and prints the result."""
    print(prepare_dataset(_DATASET.value or "", options.path(_DATA_DIR)))


if __name__ == "__main__":
    cli.launch(main, required=["dataset", "data_dir"])
