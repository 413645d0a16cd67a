"""Data sets in the IDX format of MNIST, such as Fashion-MNIST.

An IDX file has two zero bytes, a byte for the type of the elements (8: unsigned byte), a byte for
the number of dimensions, each dimension as a big-endian 32-bit integer, and then the elements.
"""

import gzip
import math
import pathlib
import struct
import zlib

import numpy as np

from akd_jax.data.dataset import Examples, Normalise, Source
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import Task

# The folder that Debian's package dataset-fashion-mnist installs.
FASHION_MNIST_DIR = pathlib.Path("/usr/share/datasets/fashion-mnist")

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def load_fashion_mnist(data_dir: Path | None) -> Source:
    """Reads Fashion-MNIST: 28x28x1 images, 10 classes.

    Xiao et al., 2017, https://arxiv.org/abs/1708.07747. Without a folder, it reads the files of
    Debian's package dataset-fashion-mnist.

    Raises:
      InputError: see `load`.
    """
    return load(data_dir or FASHION_MNIST_DIR)


def load(data_dir: Path | None) -> Source:
    """Reads the four files of a data set, which have the names of MNIST's files.

    Each file may be compressed with gzip.

    Returns:
      Images uint8 [N, H, W, 1]. Their normalisation uses the mean and the standard deviation of
      all pixels of the training images.

    Raises:
      InputError: a file is missing or damaged, the numbers of images and labels differ, there is
        no training image, or a test label is above those of training.
    """
    if data_dir is None:
        raise InputError(
            "config.dataset.data_dir: expected the folder of the IDX files, got none; set it"
        )
    splits = {}
    for name, (images_file, labels_file) in FILES.items():
        images, labels = _read(data_dir, images_file, 3), _read(data_dir, labels_file, 1)
        if len(images) != len(labels):
            raise InputError(
                f"{data_dir / images_file}: expected {len(labels)} images, the number of labels in"
                f" {labels_file}, got {len(images)}; fetch both files again"
            )
        splits[name] = Examples(images[..., None], labels.astype(np.int32))
    pixels, labels = splits["train"].inputs, splits["train"].labels
    if not len(labels):
        raise InputError(f"{data_dir}: expected training images, got none; fetch the files again")
    classes = int(labels.max()) + 1
    if splits["test"].labels.max(initial=0) >= classes:
        raise InputError(
            f"{data_dir}: expected test labels from 0 to {classes - 1}, those of the training"
            f" images, got {splits['test'].labels.max()}; give files of one data set"
        )
    return Source(
        train=splits["train"],
        test=splits["test"],
        task=Task.numbered(classes),
        normalise=Normalise((round(float(pixels.mean()), 3),), (round(float(pixels.std()), 3),)),
    )


def _read(data_dir: Path, name: str, dimensions: int) -> np.ndarray:
    """Returns the array in an IDX file of unsigned bytes."""
    path = data_dir / name
    if not path.exists():
        path = data_dir / f"{name}.gz"
    if not path.exists():
        raise InputError(
            f"config.dataset.data_dir: expected {name} or {name}.gz in {data_dir}, got neither;"
            " for Fashion-MNIST run python -m experiments.prepare --dataset=fashion_mnist"
            " --data_dir=DIR, or on Debian apt-get install dataset-fashion-mnist"
        )
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: expected a complete gzip file, got: {error}; fetch it again"
        ) from None
    header = 4 + 4 * dimensions
    shape = struct.unpack_from(f">{dimensions}I", data, 4) if len(data) >= header else ()
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) != header + math.prod(shape):
        raise InputError(
            f"{path}: expected an IDX file of unsigned bytes with {dimensions} dimensions, got"
            f" {len(data)} bytes in another format; fetch the file again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
