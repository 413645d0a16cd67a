"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 32x32x3 images, 10 and 100 classes.

The reader accepts the official binary archive, packed or unpacked, and a folder that
tensorflow-datasets prepared as array_record, which it reads without TensorFlow. All of them
give the same examples in the same order.
"""

import dataclasses
import functools
import tarfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from akd_jax.data.dataset import Examples, Normalise, Source
from akd_jax.data.readers import prepared
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import Task

_PIXELS = 32 * 32 * 3


@dataclasses.dataclass(frozen=True)
class Archive:
    """An official binary archive.

    Attributes:
      file: name of the packed archive.
      md5: published MD5 checksum of the packed archive.
      folder: name of the unpacked folder.
      train: names of the files of the training split, in order.
      test: name of the file of the test split.
      label_bytes: number of label bytes in each record; the last one is used.
      num_classes: C.
    """

    file: str
    md5: str
    folder: str
    train: Sequence[str]
    test: str
    label_bytes: int
    num_classes: int


ARCHIVES = {
    "cifar10": Archive(
        file="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        label_bytes=1,
        num_classes=10,
    ),
    "cifar100": Archive(
        file="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        label_bytes=2,  # The coarse label and the fine label.
        num_classes=100,
    ),
}


def load(name: str, data_dir: Path | None) -> Source:
    """Reads CIFAR as uint8 images [N, 32, 32, 3].

    The normalisation uses the mean and the standard deviation of the Annealing-KD paper.

    Args:
      name: 'cifar10' or 'cifar100'.
      data_dir: folder with the packed archive, the unpacked archive, or NAME/VERSION/ of
        tensorflow-datasets; None for ~/tensorflow_datasets.

    Raises:
      InputError: the folder contains none of them, or the files are damaged.
    """
    data_dir = data_dir or prepared.default_dir()
    archive = ARCHIVES[name]
    if (data_dir / archive.folder).is_dir():
        folder = data_dir / archive.folder
        train, test = _read_files(lambda file: (folder / file).read_bytes(), archive)
    elif (data_dir / archive.file).exists():
        train, test = _read_tar(data_dir / archive.file, archive)
    elif (data_dir / name).is_dir():
        train, test = (_read_tfds(name, data_dir, split) for split in ("train", "test"))
    else:
        raise InputError(
            f"config.dataset.data_dir: expected {archive.file}, {archive.folder}/ or {name}/ in"
            f" {data_dir}, got none of them; run python -m experiments.prepare --dataset={name}"
            f" --data_dir={data_dir}"
        )
    return Source(
        train,
        test,
        task=Task.numbered(archive.num_classes),
        normalise=Normalise(
            mean=tuple(255 * value for value in (0.507, 0.487, 0.441)),
            std=tuple(255 * value for value in (0.267, 0.256, 0.276)),
        ),
    )


load_cifar10 = functools.partial(load, "cifar10")
load_cifar100 = functools.partial(load, "cifar100")


def _read_files(read: Callable[[str], bytes], archive: Archive) -> tuple[Examples, Examples]:
    """Returns the training and test examples; `read` returns the content of a file by its name."""

    def examples(files: Sequence[str]) -> Examples:
        parts = [np.frombuffer(read_records(file), np.uint8) for file in files]
        records = np.concatenate(parts).reshape(-1, archive.label_bytes + _PIXELS)
        planes = records[:, archive.label_bytes :].reshape(-1, 3, 32, 32)  # [N, channels, H, W]
        labels = records[:, archive.label_bytes - 1].astype(np.int32)
        return Examples(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)

    def read_records(file: str) -> bytes:
        try:
            data = read(file)
        except (OSError, KeyError, EOFError, zlib.error) as error:
            raise InputError(
                f"{archive.folder}/{file}: expected a file, got: {error}; fetch the archive again"
            ) from None
        if not data or len(data) % (archive.label_bytes + _PIXELS):
            raise InputError(
                f"{archive.folder}/{file}: expected complete records of"
                f" {archive.label_bytes + _PIXELS} bytes, got {len(data)} bytes; fetch it again"
            )
        return data

    return examples(archive.train), examples([archive.test])


def _read_tar(path: Path, archive: Archive) -> tuple[Examples, Examples]:
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file) as tar:

            def read(file: str) -> bytes:
                member = tar.extractfile(f"{archive.folder}/{file}")
                return b"" if member is None else member.read()

            return _read_files(read, archive)
    except tarfile.TarError as error:
        raise InputError(f"{path}: expected a tar archive, got: {error}; fetch it again") from None


def _read_tfds(name: str, data_dir: Path, split: str) -> Examples:
    remedy = f"run python -m experiments.prepare --dataset={name} --data_dir=DIR with another DIR"
    # The ids have the order of the records in the official archive.
    records = prepared.records(prepared.find(name, data_dir, remedy), split, "id")
    return Examples(
        np.stack([record["image"] for record in records]),
        np.array([record["label"] for record in records], np.int32),
    )
