"""Runs of character n-grams: names of languages, and texts whose teacher has a vocabulary."""

import jax
import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import data, runs
from akd_jax.data import characters
from akd_jax.data.readers.language_names import LANGUAGES
from akd_jax.host import records
from akd_jax.runs import make_plan
from configs import language_names
from experiments import export, predict
from tests.support.runs import assert_refused
from tests.support.texts import texts, write


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a finished KD run on the names of languages."""
    workdir = tmp_path_factory.mktemp("finished")
    config = language_names.get_config("kd")
    config.dataset.train_size = 4096
    config.batch_size = 128
    config.teacher.model = "ngrams:2048x16"
    config.teacher.epochs = config.student.epochs = 4
    config.student.model = "ngrams:512x8,16"
    runs.run(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def test_split(finished):
    config = ConfigDict(records.read_config(finished)["config"])
    return data.load(make_plan(config).settings.dataset).splits["test"]


@pytest.mark.slow  # test_text_methods.py trains on texts, and the tests above n-grams.
def test_student_and_teacher_learn(finished):
    results = records.read(finished / "results.json")
    assert results["teacher"]["test"] > results["student"]["test"] > 10 / len(LANGUAGES)
    assert 0 < results["truncated"]["train"] < 0.1 * 4096
    assert runs.evaluate(finished)["student"]["accuracy"] == results["student"]["test"]


@pytest.mark.slow  # tests/experiments predicts labels of other files.
def test_predictions_of_a_file_are_codes_of_languages(finished, test_split, tmp_path):
    rows = [(number, name) for number, name in enumerate(test_split.inputs[:50, 0])]
    write(tmp_path / "names.tsv", rows, ("index", "sentence"))
    predict.predict_file(finished, tmp_path / "names.tsv", tmp_path / "out.tsv")
    best = runs.predict(finished, teachers=False)["student"].argmax(axis=-1)
    lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert lines == ["index\tprediction", *(f"{i}\t{LANGUAGES[best[i]]}" for i in range(50))]


def test_stablehlo_reads_code_points(finished, test_split, tmp_path):
    export.export_network(finished, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    expected = runs.predict(finished, teachers=False)["student"]
    short = [i for i, (name,) in enumerate(test_split.inputs) if len(name) < 20][:9]
    for rows, length in ((short, 22), (short[:1], 40)):
        tokens, _ = characters.tokenise(test_split.inputs[rows], length)
        logits = exported.call(tokens.ids, tokens.token_type_ids, tokens.lengths)
        np.testing.assert_allclose(logits, expected[rows], atol=1e-4)


@pytest.mark.slow  # test_text.py trains with two vocabularies, and the tests above n-grams.
def test_encoder_can_teach_ngrams(texts_config, tmp_path):
    config = texts_config
    config.method = "kd"
    config.teacher.views = 1
    config.dataset.max_length = 62
    config.student.model = "ngrams:64x4"
    config.student.epochs = 1
    results = runs.run(config, tmp_path)
    plan = make_plan(config)
    assert len(plan.dataset.splits["test"].inputs) == 2
    assert characters.VOCABULARY.key in plan.dataset.example
    logits = runs.predict(tmp_path)["teacher"]
    accuracy = np.mean(logits.argmax(axis=-1) == plan.dataset.splits["test"].labels)
    assert results["teacher"]["test"] == accuracy


def test_pairs_of_texts_are_read(tmp_path):
    pairs = zip(texts(80, 0), texts(80, 1), strict=True)
    rows = [(one, two, label) for (one, label), (two, _) in pairs]
    for name in ("train", "dev", "test"):
        write(tmp_path / f"{name}.tsv", rows, ("sentence1", "sentence2", "label"))
    config = language_names.get_config("scratch")
    config.dataset.name, config.dataset.data_dir = "tsv", str(tmp_path)
    config.dataset.train_size = 0
    config.dataset.max_length = 128
    config.dataset.bucketing = True
    config.batch_size = 16
    config.student.model, config.student.epochs = "ngrams:128x8", 4
    results = runs.run(config, tmp_path / "run")
    assert results["student"]["test"] > 0.7


def test_settings_that_do_not_fit_are_refused(tmp_path):
    config = language_names.get_config("scratch")
    config.dataset.max_length = 2
    message = r"config.dataset.max_length: expected at least 3, more than the special tokens"
    assert_refused(config, tmp_path / "run", message)
    config.dataset.name, config.dataset.validation_size = "digits", 100
    config.dataset.train_size = 0
    message = "config.student.model: expected a network for the images of the data set digits"
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("argument", ["kd", "no_decay", "kd,no_decay"])
def test_configuration_has_a_variant_without_decay(argument):
    config = language_names.get_config(argument)
    assert config.method == ("annealing_kd" if argument == "no_decay" else "kd")
    assert (config.student.optimizer.weight_decay == 0) == argument.endswith("no_decay")
    make_plan(config)
