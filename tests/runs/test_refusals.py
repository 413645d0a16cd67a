"""Configurations, workdirs and teachers that a run refuses."""

import dataclasses

import numpy as np
import pytest

from akd_jax import data, runs
from akd_jax.host.errors import InputError
from akd_jax.types import Task
from tests.support.configs import small_config
from tests.support.runs import assert_refused, snapshot


@pytest.fixture(scope="module")
def scratch_run(tmp_path_factory):
    """The workdir of a finished run without a teacher. Tests must not change it."""
    workdir = tmp_path_factory.mktemp("scratch")
    runs.run(scratch(small_config()), workdir)
    return workdir


def scratch(config):
    config.method = "scratch"
    config.student.epochs = 1
    return config


def relabelled(monkeypatch, labels, name):
    """Registers the digits with other labels under a name."""
    source = data.DATASETS["digits"](None)
    changed = dataclasses.replace(source, task=Task(labels(source.task.labels)))
    monkeypatch.setitem(data.DATASETS, name, lambda data_dir: changed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "akd"}, "one of scratch, kd, takd, .* got 'akd'"),
        (
            {"dataset.name": "digit"},
            "config.dataset.name: expected one of .*digits, .* got 'digit'",
        ),
        ({"batch_size": 30}, "a multiple of the 4 devices, got 30; take 28 or 32"),
        ({"annealing_kd.max_temperature": 6}, "expected 1 to 5, the epochs of stage I, got 6"),
        ({"annealing_kd.max_temperature": 0}, "greater than or equal to 1, got 0"),
        ({"student.model": "plain_cnn:4 M"}, "config.student.model: plain_cnn:4 M: expected FC"),
        ({"student.model": "plain_cnn:4 M M M M FC"}, "config.student.model: .* remove an M"),
        ({"teacher.model": "plain_cnn:4 M"}, "config.teacher.model: plain_cnn:4 M: expected FC"),
        (
            {"method": "takd", "teacher.model": "resnet:9"},  # Behind the assistant.
            r"config\.teacher\.model: resnet:9: expected a depth",
        ),
        ({"teacher.path": "nowhere"}, "the folder of a finished teacher, got nowhere"),
    ],
)
def test_bad_configuration_is_refused_before_anything_is_written(config, tmp_path, fields, message):
    config.update_from_flattened_dict(fields)
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def test_empty_workdir_is_refused(config):
    assert_refused(config, "", "workdir: expected a folder, got an empty name")


def test_workdir_of_a_different_run_is_refused(config, scratch_run):
    before = snapshot(scratch_run)
    scratch(config).seed = 1
    message = r"config.seed \(.*0.* 1.*\); choose another workdir"
    assert_refused(config, scratch_run, message)
    assert snapshot(scratch_run) == before


def test_teacher_with_other_classes_is_refused(config, teacher_path, tmp_path, monkeypatch):
    source = data.DATASETS["digits"](None)
    fives = dataclasses.replace(
        source,
        task=Task.numbered(5),
        train=source.train.take(np.flatnonzero(source.train.labels < 5)),
        test=source.test.take(np.flatnonzero(source.test.labels < 5)),
    )
    monkeypatch.setitem(data.DATASETS, "fives", lambda data_dir: fives)
    config.dataset.validation_size = 100
    config.dataset.name = "fives"
    config.teacher.path = teacher_path
    message = "the student's data set fives, with 5 classes, got one with 10 classes"
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def test_teacher_with_other_labels_is_refused(config, teacher_path, tmp_path, monkeypatch):
    relabelled(monkeypatch, lambda labels: labels[::-1], "reversed")
    config.dataset.name = "reversed"
    config.teacher.path = teacher_path
    message = "reversed, with the labels 9, 8, .*, got one with the labels 0, 1, "
    assert_refused(config, tmp_path / "run", message)


def test_finished_run_is_refused_after_its_data_changed(scratch_run, monkeypatch):
    relabelled(monkeypatch, lambda labels: labels[::-1], "digits")
    data.load.cache_clear()
    try:
        with pytest.raises(InputError, match=r"config.labels .* restore the data"):
            runs.predict(scratch_run, teachers=False)
    finally:
        data.load.cache_clear()


def test_evaluate_refuses_folders_without_a_finished_run(tmp_path, teacher_path):
    with pytest.raises(InputError, match="expected a finished run, got none"):
        runs.evaluate(tmp_path)
    with pytest.raises(InputError, match="expected a finished run, got a teacher"):
        runs.evaluate(teacher_path)


def test_evaluate_refuses_an_unknown_split(scratch_run):
    with pytest.raises(InputError, match="one of validation, train, test, got 'dev'"):
        runs.evaluate(scratch_run, "dev")
