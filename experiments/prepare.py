"""Makes a data set ready to be read: fetches it, and checks what came.

python -m experiments.prepare --dataset=cifar10 --data_dir=DIR

CIFAR-10 and CIFAR-100 are prepared by tensorflow-datasets where TensorFlow is installed, and
fetched as official binary archives where it is not. What is there already is checked only.
"""

import hashlib
import importlib.util
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from absl import flags

from akd_jax import records
from akd_jax.data import Source, cifar, idx
from akd_jax.errors import InputError
from experiments import cli

_DATASET = flags.DEFINE_string("dataset", None, "'cifar10', 'cifar100' or 'fashion_mnist'.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder for the data set.")

_READERS: Mapping[str, Callable[[Path], Source]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "fashion_mnist": idx.load,
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_TIMEOUT = 20  # Seconds without an answer before the network counts as closed.


def prepare(dataset: str, data_dir: Path) -> str:
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
        elif importlib.util.find_spec("tensorflow"):
            _prepare_with_tfds(dataset, data_dir)
        else:
            archive = cifar.ARCHIVES[dataset]
            _fetch(_CIFAR_URL, {archive.file: archive.md5}, data_dir)
        source = _READERS[dataset](data_dir)
    return (
        f"{dataset} is ready in {data_dir}: {len(source.train):,} training and"
        f" {len(source.test):,} test images"
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
    print(prepare(_DATASET.value or "", Path(_DATA_DIR.value or "")))


if __name__ == "__main__":
    cli.launch(main, required=["dataset", "data_dir"])
