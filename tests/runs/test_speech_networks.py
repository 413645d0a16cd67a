"""Data sets of codes and transcripts: which networks fit them, and a run."""

import jax
import numpy as np
import pytest

from akd_jax import data, models, runs
from akd_jax.data import Examples, Source
from akd_jax.runs import make_plan
from akd_jax.runs.networks import ModelSpec, build_network, load_vocabularies, tokenise_dataset
from akd_jax.types import Task
from tests.support.encoders import MINILM
from tests.support.runs import assert_refused, read_metrics

SPEECH = "speech:20,1x16,light:8"


def recordings(count, seed):
    """Random codes with a transcript; the label is whether code 0 is among the codes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    rows = []
    for label in labels:
        numbers = rng.integers(1 - label, 20 if not label else 2, rng.integers(3, 30))
        rows.append((" ".join(map(str, numbers)), "a good film" if label else "a bad one"))
    return Examples(np.array(rows, object), labels)


@pytest.fixture
def config(config, monkeypatch):
    """A student on recordings with two intents."""
    source = Source(
        recordings(64, 0),
        recordings(16, 1),
        Task(("no", "yes")),
        None,
        validation=recordings(16, 2),
        columns=("codes", "transcript"),
        kinds=("codes", "text"),
    )
    monkeypatch.setitem(data.DATASETS, "recordings", lambda data_dir: source)
    config.dataset.name, config.dataset.validation_size = "recordings", 0
    config.dataset.crop_padding, config.dataset.flip = 0, False
    config.dataset.max_codes, config.dataset.bucketing = 32, False
    config.method, config.student.model, config.batch_size = "scratch", SPEECH, 16
    config.student.epochs = 2
    return config


@pytest.mark.slow  # tests/methods/test_textual_kd.py trains such networks.
def test_a_network_of_codes_is_trained(config, tmp_path):
    results = runs.run(config, tmp_path)
    assert np.isfinite([line["train_loss"] for line in read_metrics(tmp_path)]).all()
    assert results["student"]["test"] is not None
    assert runs.predict(tmp_path)["student"].shape == (16, 2)


@pytest.mark.parametrize("length", [1, 2049])
def test_codes_beyond_the_positions_are_refused(config, length, tmp_path):
    config.dataset.max_codes = length
    assert_refused(
        config,
        tmp_path,
        r"config\.dataset\.max_codes: expected 2 to 2048, .* of config\.student\.model"
        rf" speech:20,1x16,light:8, got {length}; choose a length in this range",
    )


def test_codes_that_the_network_does_not_have_are_refused(config, tmp_path):
    config.student.model = "speech:15,1x16"
    assert_refused(config, tmp_path, "expected codes from 0 to 14,")


def test_the_vector_of_a_transcript_needs_no_labels(config):
    plan = make_plan(config)
    settings, dataset = plan.settings.dataset, data.load(plan.settings.dataset)
    spec = ModelSpec("config.teacher.model", f"sentence:{MINILM}")
    specs = {"student": ModelSpec("config.student.model", SPEECH), "teacher": spec}
    vocabularies = load_vocabularies(settings, dataset, specs)
    dataset = tokenise_dataset(settings, dataset, list(vocabularies.values()))
    network, _ = build_network(spec, vocabularies["teacher"], "float32", "recordings", dataset)
    assert models.folder(spec.spec) == network.pretrained.folder
    outputs = network.module.apply(
        network.initial_variables(jax.random.key(0), dataset.example),
        network.preprocess(dataset.example),
    )
    assert outputs.features["sentence"].shape == (1, 384)
