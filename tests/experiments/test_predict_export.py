"""Prediction and export of image networks; tests/runs/test_text.py has those of texts."""

import sys
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from experiments import export, onnx_files, predict
from tests.support.configs import small_config
from tests.support.launching import ROOT
from tests.support.pages import code_of


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


def test_onnx_of_an_image_network_reads_raw_images(scratch_run, images, tmp_path, capsys):
    export.export_network(scratch_run, "onnx", tmp_path / "student.onnx")
    assert "Largest difference of onnxruntime's logits, on 3 examples: " in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    (given,) = session.get_inputs()
    expected = runs.predict(scratch_run)["student"]
    for count in (1, 500):
        (logits,) = session.run(None, {given.name: images[:count]})
        np.testing.assert_allclose(logits, expected[:count], atol=1e-5)


def test_the_code_of_the_docs_reads_exports(scratch_run, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    export.export_network(scratch_run, "stablehlo", Path("student.bin"))
    export.export_network(scratch_run, "onnx", Path("student.onnx"))
    np.save("images.npy", images[:20])
    capsys.readouterr()
    expected = runs.predict(scratch_run)["student"][:20].argmax(axis=-1)
    codes = [code for code in code_of(ROOT / "docs/export.md") if "images.npy" in code]
    assert len(codes) == 2
    for code in codes:
        exec(code, {})
        assert capsys.readouterr().out == f"{expected}\n"


def test_networks_that_onnx_cannot_have_are_refused(scratch_run, tmp_path, monkeypatch):
    output = tmp_path / "student.onnx"
    monkeypatch.setattr(onnx_files, "largest_difference", lambda *arguments: 0.5)
    assert_refused(
        export.export_network, scratch_run, "onnx", output, match="within 0.001, got .* of 0.5; use"
    )

    def backwards(x):
        return jax.lax.scan(lambda total, row: (total + row, total), x[0], x, reverse=True)[1]

    with pytest.raises(onnx_files.UnsupportedError, match="jax2onnx fails with: Reverse scan"):
        onnx_files.convert(lambda x: backwards(x.T).T, [np.ones((2, 3), np.float32)])
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert_refused(
        export.export_network, scratch_run, "onnx", output, match="pip install --no-deps jax2onnx"
    )
    assert not output.exists()


def test_unknown_format_or_network_is_refused(scratch_run, tmp_path):
    output = tmp_path / "out"
    assert_refused(
        export.export_network,
        scratch_run,
        "pickle",
        output,
        match="one of safetensors, stablehlo, onnx, got",
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
