"""Runs whose teacher outputs are stored."""

import numpy as np
import pytest

from akd_jax import runs
from akd_jax.host import records
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from tests.support.configs import small_config
from tests.support.recorder import RecordingLoss
from tests.support.runs import assert_refused, read_metrics, snapshot
from tests.support.scripted import use_method


@pytest.fixture
def config(config, teacher_path):
    return augmented(config, teacher_path)


def augmented(config, teacher_path):
    config.teacher.path = teacher_path
    config.dataset.crop_padding = 1
    config.dataset.flip = True
    config.student.epochs = 4
    config.annealing_kd.stage_1.epochs = 3
    return config


@pytest.fixture(scope="module")
def cached(teacher_path, tmp_path_factory):
    """The folder of a run in 'run' and of its teacher's outputs in 'cache'."""
    folder = tmp_path_factory.mktemp("cached")
    config = augmented(small_config(), teacher_path)
    config.teacher.views = 4  # One view per epoch.
    config.teacher.cache_dir = str(folder / "cache")
    runs.run(config, folder / "run")
    return folder


@pytest.mark.slow  # test_stored_outputs.py compares other outputs.
def test_stored_logits_train_like_a_live_teacher(config, tmp_path, cached):
    live = runs.run(config, tmp_path)
    stored = records.read(cached / "run/results.json")
    assert "teacher_cache" not in live
    assert stored["teacher_cache"]["teacher"]["views"] == 4
    np.testing.assert_allclose(
        [record["train_loss"] for record in read_metrics(cached / "run")],
        [record["train_loss"] for record in read_metrics(tmp_path)],
        rtol=1e-5,
    )
    assert stored["student"] == live["student"]


def test_one_cache_serves_all_methods_and_seeds(config, tmp_path, cached):
    before = snapshot(cached / "cache")
    config.teacher.views = 4
    config.teacher.cache_dir = str(cached / "cache")
    config.seed = 1
    config.method = "kd"
    config.student.epochs = 1
    results = runs.run(config, tmp_path)
    stored = records.read(cached / "run/results.json")
    assert results["teacher_cache"] == stored["teacher_cache"]  # With the same seconds.
    after = snapshot(cached / "cache")
    assert {path for path in after if before.get(path) != after[path]} <= {
        path for path in after if path.name == ".lock"
    }
    assert not (tmp_path / "teacher_logits").exists()


def test_views_repeat_in_the_same_order_in_stages_with_and_without_a_teacher(
    config, tmp_path, monkeypatch
):
    loss = RecordingLoss()

    def build(settings, task):
        optimizer = settings.student.optimizer
        stages = (
            Stage("with_teacher", 3, loss.in_stage(0), optimizer, teachers=("teacher",)),
            Stage("without_teacher", 3, loss.in_stage(3), optimizer),
        )
        return Method("custom", stages, default_teacher(settings))

    use_method(monkeypatch, config, build)
    config.teacher.views = 2
    runs.run(config, tmp_path)
    assert [loss.views[epoch] for epoch in range(6)] == [{0}, {1}, {0}, {1}, {0}, {1}]
    assert len([*tmp_path.glob("teacher_logits/teacher-*/view_*.logits.npy")]) == 2


def test_cache_folder_that_cannot_be_written_is_refused_first(config, tmp_path):
    (tmp_path / "file").write_text("")
    config.teacher.views = 1
    config.teacher.cache_dir = str(tmp_path / "file" / "below")
    assert_refused(config, tmp_path / "run", "expected a folder")
    assert not (tmp_path / "run").exists()
