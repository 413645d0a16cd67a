"""CIFAR-10, CIFAR-100 and Fashion-MNIST: downloads and their checksums."""

import hashlib
import importlib.util
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping

from akd_jax.data.readers import cifar, idx
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_TIMEOUT = 20  # Seconds to wait for an answer from the network.


def prepare_cifar(dataset: str, data_dir: Path) -> None:
    """Downloads CIFAR, with tensorflow-datasets if TensorFlow is installed.

    Args:
      dataset: 'cifar10' or 'cifar100'.
      data_dir: the folder to write to.

    Raises:
      InputError: it could not be downloaded.
    """
    if importlib.util.find_spec("tensorflow"):
        _prepare_with_tfds(dataset, data_dir)
    else:
        archive = cifar.ARCHIVES[dataset]
        _download(CIFAR_URL, {archive.file: archive.md5}, data_dir)


def prepare_fashion_mnist(data_dir: Path) -> None:
    """Downloads Fashion-MNIST.

    Raises:
      InputError: it could not be downloaded.
    """
    # Fashion-MNIST has no official checksums, but gzip contains one, and the reader checks the
    # sizes.
    files = {f"{name}.gz": None for names in idx.FILES.values() for name in names}
    _download(FASHION_MNIST_URL, files, data_dir)


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
