"""Of images; texts are in tests/test_text_run.py."""

import jax
import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import records, runs
from akd_jax.errors import InputError
from akd_jax.plan import make_plan
from experiments import export, predict
from tests.support.configs import small_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = small_config()
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, folder)
    return folder


@pytest.fixture(scope="module")
def images(finished):
    config = ConfigDict(records.read_config(finished)["config"])
    return make_plan(config).dataset.splits["test"].inputs


def refused(function, *args, match):
    with pytest.raises(InputError, match=match) as error:
        function(*args)
    assert "\n" not in str(error.value)


def test_images_are_labelled_as_in_evaluation(finished, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    output = tmp_path / "new" / "out.tsv"
    assert predict.predict_file(finished, tmp_path / "images.npy", output) == 500
    best = runs.predict(finished)["student"].argmax(axis=-1)
    rows = [f"{number}\t{label}" for number, label in enumerate(best)]
    assert output.read_text().splitlines() == ["index\tprediction", *rows]


def test_what_is_no_image_file_is_refused(finished, images, tmp_path):
    output = tmp_path / "out.tsv"
    path = tmp_path / "images.npy"
    refused(predict.predict, finished, path, output, match="expected a .npy file of images, got: ")
    np.savez(tmp_path / "images.npz", images)
    given = tmp_path / "images.npz"
    refused(predict.predict, finished, given, output, match="expected a .npy file of images, got: ")
    np.save(path, images[:0])
    refused(predict.predict, finished, path, output, match=r"got uint8 \[0, 8, 8, 1\]")
    np.save(path, images[:, :7])
    refused(predict.predict, finished, path, output, match=r"got uint8 \[500, 7, 8, 1\]")
    np.save(path, np.float32(images))
    refused(predict.predict, finished, path, output, match=r"got float32 \[500, 8, 8, 1\]")
    refused(predict.predict, finished, path, path, match="the name of a file other than --input")
    refused(predict.predict, finished, path, tmp_path, match="the name of a file other than")
    assert not output.exists()


def test_the_stablehlo_of_an_image_network_reads_raw_images(finished, images, tmp_path):
    export.export_network(finished, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    expected = runs.predict(finished)["student"]
    for count in (1, 500):
        np.testing.assert_allclose(exported.call(images[:count]), expected[:count], atol=1e-5)


def test_what_cannot_be_exported_is_refused(finished, tmp_path):
    output = tmp_path / "out"
    refused(export.export, finished, "onnx", output, match="one of safetensors, stablehlo, got")
    refused(export.export, finished, "safetensors", output, match="expected stablehlo for a Plain")
    refused(export.export, finished, "stablehlo", output, "teacher", match="one of student, got")
    assert not output.exists()
