"""Small data sets in the formats of CIFAR, written by the tests and read by the library."""

import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.core import registered
from tensorflow_datasets.image_classification.cifar import Cifar10

from akd_jax import data
from akd_jax.data import Batches
from akd_jax.data.readers import cifar
from akd_jax.host.errors import InputError
from akd_jax.runs.config import parse

RNG = np.random.default_rng(0)
PER_FILE = 4
TRAIN = (RNG.integers(0, 256, (5 * PER_FILE, 32, 32, 3), np.uint8), RNG.integers(0, 10, 20))
TEST = (RNG.integers(0, 256, (PER_FILE, 32, 32, 3), np.uint8), RNG.integers(0, 10, PER_FILE))


def records(images, labels, coarse=b""):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return b"".join(
        coarse + bytes([label]) + plane.tobytes()
        for label, plane in zip(labels, planes, strict=True)
    )


def files():
    named = {
        f"data_batch_{number + 1}.bin": records(
            *(part[number * PER_FILE : (number + 1) * PER_FILE] for part in TRAIN)
        )
        for number in range(5)
    }
    return {**named, "test_batch.bin": records(*TEST)}


@pytest.fixture
def archive_dir(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, content in files().items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return tmp_path


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A folder prepared by the builder of tensorflow-datasets, with other examples."""

    with registered.skip_registration():  # The name is already registered.

        class Prepared(Cifar10):
            name = "cifar10"

            def _split_generators(self, dl_manager):
                splits = (("train", *TRAIN), ("test", *TEST))
                return {split[0]: self._generate(*split) for split in splits}

            def _generate(self, prefix, images, labels):
                for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                    name = f"{prefix}_{number:05d}"
                    png = io.BytesIO()
                    Image.fromarray(image).save(png, "PNG")
                    png.seek(0)
                    yield name, {"id": name, "image": png, "label": int(label)}

    folder = tmp_path_factory.mktemp("tfds")
    Prepared(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def assert_contains_the_examples(source):
    for split, (images, labels) in ((source.train, TRAIN), (source.test, TEST)):
        np.testing.assert_array_equal(split.inputs, images)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.labels.dtype == np.int32


def test_packed_and_unpacked_archive_and_array_record_have_the_same_examples(archive_dir, tfds_dir):
    assert_contains_the_examples(cifar.load_cifar10(archive_dir))
    with tarfile.open(archive_dir / "cifar-10-binary.tar.gz") as tar:
        tar.extractall(archive_dir, filter="data")
    (archive_dir / "cifar-10-binary.tar.gz").unlink()
    assert_contains_the_examples(cifar.load_cifar10(archive_dir))
    assert_contains_the_examples(cifar.load_cifar10(tfds_dir))


def test_archive_and_array_record_give_the_same_batches(config, archive_dir, tfds_dir):
    config.dataset.name = "cifar10"
    config.dataset.validation_size = 6
    epochs = []
    for data_dir in (archive_dir, tfds_dir):
        config.dataset.data_dir = str(data_dir)
        dataset = data.load(parse(config).dataset)
        epochs.append(list(Batches(dataset.splits["train"], 4, seed=0).epoch(3)))
        assert {name: len(split) for name, split in dataset.splits.items()} == {
            "train": 14,
            "validation": 6,
            "test": 4,
        }
    assert len(epochs[0]) == 4
    for one, other in zip(*epochs, strict=True):
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.ids, other.ids)


def test_cifar100_uses_the_fine_label(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(records(*TRAIN, coarse=b"\x07"))
    (folder / "test.bin").write_bytes(records(*TEST, coarse=b"\x08"))
    source = cifar.load_cifar100(tmp_path)
    assert_contains_the_examples(source)
    assert source.task.outputs == 100


def test_normalisation_uses_the_constants_of_the_paper(archive_dir):
    normalise = cifar.load_cifar10(archive_dir).normalise
    pixel = np.uint8([[[255, 0, 128]]])
    expected = (np.array([1, 0, 128 / 255]) - [0.507, 0.487, 0.441]) / [0.267, 0.256, 0.276]
    np.testing.assert_allclose(normalise(pixel)[0, 0], expected, rtol=1e-5)


def test_missing_files_are_reported_with_folder_and_command(tmp_path):
    with pytest.raises(InputError) as error:
        cifar.load_cifar10(tmp_path)
    for part in (str(tmp_path), "cifar-10-binary.tar.gz", "experiments.prepare --dataset=cifar10"):
        assert part in str(error.value)


def test_folder_prepared_in_another_format_is_rejected(tmp_path, tfds_dir):
    shutil.copytree(tfds_dir / "cifar10", tmp_path / "cifar10")
    (version,) = (tmp_path / "cifar10").iterdir()
    shutil.rmtree(version)
    with pytest.raises(InputError, match="prepared as array_record"):
        cifar.load_cifar10(tmp_path)
    shutil.copytree(tfds_dir / "cifar10", tmp_path / "cifar10", dirs_exist_ok=True)
    info = tmp_path / "cifar10" / version.name / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match="prepared as array_record"):
        cifar.load_cifar10(tmp_path)


def test_damaged_archives_are_rejected(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"not a tar file")
    with pytest.raises(InputError, match="expected a tar archive"):
        cifar.load_cifar10(tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, content in files().items():
        (folder / name).write_bytes(content)
    (folder / "data_batch_3.bin").write_bytes(files()["data_batch_3.bin"][:-1])
    with pytest.raises(InputError, match=r"data_batch_3\.bin: expected complete records of 3073"):
        cifar.load_cifar10(tmp_path)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_3\.bin: expected a file"):
        cifar.load_cifar10(tmp_path)
