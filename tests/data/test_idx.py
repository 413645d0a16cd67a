import gzip
import struct

import numpy as np
import pytest

from akd_jax.data.readers import idx
from akd_jax.host.errors import InputError

FASHION_MNIST = pytest.mark.skipif(
    not idx.FASHION_MNIST_DIR.exists(),
    reason="needs Debian's package dataset-fashion-mnist",
)


def pack(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (6, 5, 4)),
        "train-labels-idx1-ubyte": np.array([0, 1, 2, 0, 1, 2]),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 5, 4)),
        "t10k-labels-idx1-ubyte": np.array([2, 1, 0]),
    }


@pytest.fixture
def folder(tmp_path, arrays):
    for number, (name, array) in enumerate(arrays.items()):
        if number % 2:  # Compressed and uncompressed files may be mixed.
            (tmp_path / name).write_bytes(pack(array))
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(pack(array)))
    return tmp_path


def test_arrays_are_read_back(folder, arrays):
    source = idx.load(folder)
    np.testing.assert_array_equal(source.train.inputs[..., 0], arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(source.test.labels, [2, 1, 0])
    assert source.train.inputs.dtype == np.uint8
    assert source.task.outputs == 3
    normalised = np.asarray(source.normalise(source.train.inputs))
    np.testing.assert_allclose([normalised.mean(), normalised.std()], [0, 1], atol=1e-4)


def test_missing_file_is_reported_with_folder_and_command(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError) as error:
        idx.load(folder)
    assert str(folder) in str(error.value)
    assert "t10k-labels-idx1-ubyte.gz" in str(error.value)
    assert "python -m experiments.prepare" in str(error.value)


@pytest.mark.parametrize("damage", ["truncate", "type", "dimensions", "longer", "empty"])
def test_damaged_file_is_rejected(folder, damage):
    path = folder / "train-labels-idx1-ubyte"
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncate": data[:-1],
            "type": data[:2] + b"\x0d" + data[3:],
            "dimensions": data[:3] + b"\x03" + data[4:],
            "longer": data + b"\x00",
            "empty": b"",
        }[damage]
    )
    with pytest.raises(InputError, match="train-labels-idx1-ubyte: expected an IDX file of"):
        idx.load(folder)


@pytest.mark.parametrize("damage", [slice(None, -20), slice(20, None)])
def test_damaged_gzip_file_is_rejected(folder, damage):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:10] + path.read_bytes()[10:][damage])
    with pytest.raises(InputError, match=r"images-idx3-ubyte\.gz: expected a complete gzip file"):
        idx.load(folder)


def test_different_numbers_of_images_and_labels_are_rejected(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(pack(np.arange(5)))
    with pytest.raises(InputError, match=r"expected 5 images, the number of labels in .*, got 6"):
        idx.load(folder)


def test_test_labels_of_other_classes_are_rejected(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(pack(np.array([2, 3, 0])))
    with pytest.raises(InputError, match=r"expected test labels from 0 to 2, .* got 3; give files"):
        idx.load(folder)


def test_files_without_training_images_are_rejected(folder):
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(pack(np.zeros((0, 5, 4)))))
    (folder / "train-labels-idx1-ubyte").write_bytes(pack(np.zeros(0)))
    with pytest.raises(InputError, match="expected training images, got none"):
        idx.load(folder)


def test_missing_data_dir_is_rejected():
    with pytest.raises(InputError, match=r"config\.dataset\.data_dir: expected the folder"):
        idx.load(None)


@FASHION_MNIST
def test_fashion_mnist_has_the_published_sizes_and_statistics():
    source = idx.load_fashion_mnist(None)
    assert source.train.inputs.shape == (60000, 28, 28, 1)
    assert source.test.inputs.shape == (10000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(source.train.labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(source.test.labels), [1000] * 10)
    # The mean and the standard deviation that are commonly used.
    np.testing.assert_allclose(np.array(source.normalise.mean) / 255, [0.2860], atol=1e-4)
    np.testing.assert_allclose(np.array(source.normalise.std) / 255, [0.3530], atol=1e-4)
