"""Dry runs measure a run and write nothing."""

import jax
import numpy as np
import pytest

from akd_jax.runs import make_plan, rehearse
from akd_jax.runs.teachers import load_teacher
from experiments import train


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder, which must stay empty."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_dry_run_measures_a_run_and_writes_nothing(config, empty_folder):
    config.teacher.views = 3
    report = rehearse(config)
    plan = make_plan(config)
    for name, network in {"student": plan.student, **plan.teachers}.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), plan.dataset.example)
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]))
        assert report["networks"][name] == {"parameters": count}
    assert report["cache"] == 1000 * 10 * 4 * 3  # Examples, classes, bytes per number and views.
    one, two = report["stages"]
    assert (one["name"], one["epochs"], one["updates"]) == ("stage_1", 5, 25)
    assert one["schedules"] == {"temperature": [2, 2, 1, 1, 1], "phi": [0.5, 0.5, 1, 1, 1]}
    assert two["schedules"] == {}
    assert two["learning_rate"][0] == pytest.approx(config.student.optimizer.learning_rate)
    for stage in (one, two):
        assert np.isfinite(stage["loss"])
        # At least the parameters, their momentum and this device's share of the images.
        parameters = report["networks"]["student"]["parameters"]
        assert stage["bytes"] > 2 * 4 * parameters + 50 * 64
    text = train.dry_run_report(report)
    for part in (
        "not trained yet",
        "stage_1, 5 epochs",
        "0.5 to 1",
        "Stored teacher outputs: 0.1 MB",
    ):
        assert part in text


def test_dry_run_evaluates_a_finished_teacher(config, teacher_path, empty_folder):
    config.teacher.path = teacher_path
    config.method = "kd"
    teacher = rehearse(config)["networks"]["teacher"]
    # All 297 validation examples, because they are fewer than four batches of 200.
    expected = load_teacher(make_plan(config), "teacher", empty_folder).results["validation"]
    assert teacher["accuracy"] == pytest.approx(expected)


def test_dry_run_reports_the_loss_of_the_first_steps(config, empty_folder):
    config.method = "scratch"
    (stage,) = rehearse(config)["stages"]
    assert 1.5 < stage["loss"] < 4  # About log(10), for ten classes at the beginning.
