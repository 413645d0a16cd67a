import gzip
import hashlib
import io
import urllib.error

import numpy as np
import pytest

from akd_jax.data import cifar, idx
from akd_jax.errors import InputError
from experiments import prepare as launcher
from experiments.prepare import prepare


@pytest.fixture
def network(monkeypatch):
    """Answers with what is put into it, by address; counts what was asked."""
    pages, asked = {}, []

    def urlopen(address, timeout):
        asked.append(address)
        assert timeout <= 20
        if address not in pages:
            raise urllib.error.URLError("Name or service not known")
        return io.BytesIO(pages[address])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # No TensorFlow.
    pages["asked"] = asked
    return pages


def idx_files():
    found = {}
    for count, names in ((6, idx.FILES["train"]), (3, idx.FILES["test"])):
        for name, shape in zip(names, ((count, 5, 5), (count,)), strict=True):
            header = bytes([0, 0, 8, len(shape)])
            header += b"".join(size.to_bytes(4, "big") for size in shape)
            found[f"{name}.gz"] = gzip.compress(header + bytes(int(np.prod(shape))))
    return found


def test_what_is_fetched_is_ready_and_not_fetched_again(network, tmp_path):
    for name, content in idx_files().items():
        network[launcher._FASHION_MNIST_URL + name] = content
    for _ in range(2):
        line = prepare("fashion_mnist", tmp_path / "new")
        assert line.startswith("fashion_mnist is ready in")
        assert "6 training and 3 test examples" in line
    assert len(network["asked"]) == 4


def test_without_a_network_the_file_and_the_place_are_named(network, tmp_path):
    with pytest.raises(InputError) as error:
        prepare("cifar10", tmp_path)
    for part in ("kriz/cifar-10-binary.tar.gz", "Name or service not known", str(tmp_path)):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_is_found_by_its_checksum(network, tmp_path):
    network[launcher._CIFAR_URL + "cifar-100-binary.tar.gz"] = b"half of it"
    with pytest.raises(InputError) as error:
        prepare("cifar100", tmp_path)
    assert cifar.ARCHIVES["cifar100"].md5 in str(error.value)
    assert hashlib.md5(b"half of it").hexdigest() in str(error.value)


def test_an_unknown_data_set(network, tmp_path):
    with pytest.raises(InputError, match="one of cifar10, cifar100, fashion_mnist, movie_reviews, got 'mnist'"):
        prepare("mnist", tmp_path)
