"""Makes a data set ready to be read: fetches it, and checks what came.

python -m experiments.prepare --dataset=cifar10 --data_dir=DIR

CIFAR-10 and CIFAR-100 are prepared by tensorflow-datasets where TensorFlow is installed, and
fetched as official binary archives where it is not. The movie reviews are made of the ratings
in the source archive of the PyPI package vaderSentiment 0.5. What is there already is checked
only.
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

from akd_jax import records
from akd_jax.data import Source, cifar, idx, tsv
from akd_jax.errors import InputError
from akd_jax.files import Path
from experiments import cli

_DATASET = flags.DEFINE_string(
    "dataset", None, "'cifar10', 'cifar100', 'fashion_mnist' or 'movie_reviews'."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder for the data set.")

_READERS: Mapping[str, Callable[[Path], Source]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "fashion_mnist": idx.load,
    "movie_reviews": tsv.load_movie_reviews,
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_VADER = "vaderSentiment==0.5"
_VADER_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_VADER_RATINGS = "movieReviewSnippets_GroundTruth.txt"
_TIMEOUT = 20  # Seconds without an answer before the network counts as closed.


def prepare_dataset(dataset: str, data_dir: Path) -> str:
    """Makes a data set ready in a folder and returns a line that says what is there.

    Raises:
      InputError: there is no such data set, or it could not be fetched; the message says what
        to put where by hand.
    """
    if dataset not in _READERS:
        raise InputError(
            f"--dataset: expected one of {', '.join(_READERS)}, got {dataset!r}; digits need no"
            " preparation"
        )
    records.check_writable(data_dir)
    try:
        source = _READERS[dataset](data_dir)
    except InputError:  # Not there, or not whole.
        if dataset == "fashion_mnist":
            # Without published checksums: gzip's, and the format's sizes, are checked on reading.
            files = {f"{name}.gz": None for names in idx.FILES.values() for name in names}
            _fetch(_FASHION_MNIST_URL, files, data_dir)
        elif dataset == "movie_reviews":
            _write_movie_reviews(_fetch_vader(), data_dir)
        elif importlib.util.find_spec("tensorflow"):
            _prepare_with_tfds(dataset, data_dir)
        else:
            archive = cifar.ARCHIVES[dataset]
            _fetch(_CIFAR_URL, {archive.file: archive.md5}, data_dir)
        source = _READERS[dataset](data_dir)
    return (
        f"{dataset} is ready in {data_dir}: {len(source.train):,} training and"
        f" {len(source.test):,} test examples"
    )


def _fetch(url: str, files: Mapping[str, str | None], data_dir: Path) -> None:
    """Fetches the files that are not there yet, and checks those whose MD5 is given."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for name, md5 in files.items():
        path = data_dir / name
        if not path.exists():
            partial = path.with_suffix(".part")
            try:
                with (
                    urllib.request.urlopen(url + name, timeout=_TIMEOUT) as answer,
                    partial.open("wb") as file,
                ):
                    shutil.copyfileobj(answer, file)
            except (urllib.error.URLError, OSError) as error:
                partial.unlink(missing_ok=True)
                raise InputError(
                    f"{url}{name} cannot be fetched ({getattr(error, 'reason', error)}); fetch it"
                    f" on another machine and put it into {data_dir}"
                ) from None
            partial.replace(path)
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if md5 is not None and found != md5:
            raise InputError(
                f"{path}: expected a file of MD5 {md5}, got {found}; delete it and run again"
            )


def _fetch_vader() -> bytes:
    """The source archive of vaderSentiment 0.5, from wherever pip finds it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary=:all:", f"--dest={folder}", _VADER]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(pathlib.Path(folder).glob("*.zip"))
        if done.returncode or not archives:
            reason = (done.stderr.strip() or "no archive came").splitlines()[-1]
            raise InputError(
                f"{_VADER}: expected pip to download its source archive, got: {reason}"
            )
        archive = archives[0].read_bytes()
    found = hashlib.sha256(archive).hexdigest()
    if found != _VADER_SHA256:
        raise InputError(
            f"{_VADER}: expected a source archive of SHA-256 {_VADER_SHA256}, got {found}; try"
            " another package index"
        )
    return archive


def _write_movie_reviews(archive: bytes, data_dir: Path) -> None:
    """Makes train.tsv, dev.tsv and test.tsv of the mean ratings in vaderSentiment's archive.

    A sentence is positive (1) or negative (0) by the sign of its rating; those within 0.5 of
    zero are left out.
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
    labels = {}  # Of a sentence that is there twice, the later one.
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
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(dataset, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # It raises whatever its downloads and TensorFlow raise.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        archive = cifar.ARCHIVES[dataset].file
        raise InputError(
            f"tensorflow-datasets cannot prepare {dataset} ({reason}); fetch {_CIFAR_URL}{archive}"
            f" on another machine and put it into {data_dir}"
        ) from None


def main() -> None:
    """Prepares the data set that the flags name."""
    print(prepare_dataset(_DATASET.value or "", cli.path(_DATA_DIR)))


if __name__ == "__main__":
    cli.launch(main, required=["dataset", "data_dir"])
