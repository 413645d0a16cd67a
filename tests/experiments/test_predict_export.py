"""Prediction and export of image networks; tests/runs/test_text.py has those of texts."""

import jax
import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from experiments import export, predict
from tests.support.configs import small_config


@pytest.fixture(scope="module")
def scratch_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = small_config()
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, folder)
    return folder


@pytest.fixture(scope="module")
def images(scratch_run):
    config = ConfigDict(records.read_config(scratch_run)["config"])
    return runs.make_plan(config).dataset.splits["test"].inputs


def assert_refused(function, *args, match):
    with pytest.raises(InputError, match=match) as error:
        function(*args)
    assert "\n" not in str(error.value)


def test_written_predictions_are_the_largest_logits(scratch_run, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    output = tmp_path / "new" / "out.tsv"
    lines = predict.predict_file(scratch_run, tmp_path / "images.npy", output)
    assert len(lines) == 501
    best = runs.predict(scratch_run)["student"].argmax(axis=-1)
    rows = [f"{number}\t{label}" for number, label in enumerate(best)]
    assert output.read_text().splitlines() == ["index\tprediction", *rows]


def test_wrong_input_or_output_is_refused(scratch_run, images, tmp_path):
    output = tmp_path / "out.tsv"
    path = tmp_path / "images.npy"
    assert_refused(
        predict.predict_file,
        scratch_run,
        path,
        output,
        match="expected a .npy file of images, got: ",
    )
    np.savez(tmp_path / "images.npz", images)
    given = tmp_path / "images.npz"
    assert_refused(
        predict.predict_file,
        scratch_run,
        given,
        output,
        match="expected a .npy file of images, got: ",
    )
    np.save(path, images[:0])
    assert_refused(
        predict.predict_file, scratch_run, path, output, match=r"got uint8 \[0, 8, 8, 1\]"
    )
    np.save(path, images[:, :7])
    assert_refused(
        predict.predict_file, scratch_run, path, output, match=r"got uint8 \[500, 7, 8, 1\]"
    )
    np.save(path, np.float32(images))
    assert_refused(
        predict.predict_file, scratch_run, path, output, match=r"got float32 \[500, 8, 8, 1\]"
    )
    assert_refused(
        predict.predict_file,
        scratch_run,
        path,
        path,
        match="the name of a file other than --input",
    )
    assert_refused(
        predict.predict_file, scratch_run, path, tmp_path, match="the name of a file other than"
    )
    assert not output.exists()


def test_stablehlo_of_an_image_network_reads_raw_images(scratch_run, images, tmp_path):
    export.export_network(scratch_run, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    expected = runs.predict(scratch_run)["student"]
    for count in (1, 500):
        np.testing.assert_allclose(exported.call(images[:count]), expected[:count], atol=1e-5)


def test_unknown_format_or_network_is_refused(scratch_run, tmp_path):
    output = tmp_path / "out"
    assert_refused(
        export.export_network,
        scratch_run,
        "onnx",
        output,
        match="one of safetensors, stablehlo, got",
    )
    assert_refused(
        export.export_network,
        scratch_run,
        "safetensors",
        output,
        match="expected stablehlo for a Plain",
    )
    assert_refused(
        export.export_network,
        scratch_run,
        "stablehlo",
        output,
        "teacher",
        match="one of student, got",
    )
    assert not output.exists()
