"""Runs whose loss, gradients or scores are bad."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import data, losses, runs
from akd_jax.data import Examples
from akd_jax.host.errors import DivergedError
from akd_jax.methods.scratch import supervised_loss
from tests.support.runs import read_checkpoint, read_metrics, read_progress
from tests.support.scripted import use_loss, use_scripted_scores


@pytest.fixture(autouse=True)
def allow_nan():
    with jax.debug_nans(False):
        yield


def test_error_of_a_diverged_run_names_the_step_and_the_remedies(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    config.annealing_kd.stage_1.optimizer.learning_rate = 1e20
    with pytest.raises(
        DivergedError,
        match=r"stage_1: .* in step \d of epoch 1, at temperature 2; lower the learning rate"
        r" \(now 1e\+20\), set clip_norm",
    ):
        runs.run(config, tmp_path)


@pytest.mark.parametrize("checkpoint_every", [1, 100])
def test_finished_epochs_before_a_divergence_are_kept(
    config, tmp_path, monkeypatch, checkpoint_every
):
    def exploding(student, teachers, batch, clock):
        values = losses.cross_entropy(student.logits, batch.labels)
        return values * jnp.where(clock.epoch == 2, jnp.inf, 1)  # In the third epoch.

    use_loss(monkeypatch, config, exploding)
    config.checkpoint_every = checkpoint_every
    with pytest.raises(DivergedError, match="in step 1 of epoch 3; lower"):
        runs.run(config, tmp_path)
    assert len(read_metrics(tmp_path)) == 2
    if checkpoint_every == 1:
        assert read_progress(tmp_path / "student/custom_0")["epoch"] == 2
        best = read_checkpoint(tmp_path / "student/custom_0")["best"]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(best))


def test_steps_with_nan_can_be_skipped(config, tmp_path, monkeypatch):
    config.student.epochs = 3
    config.skip_nonfinite = True
    bad_examples = np.arange(1)  # One example spoils its step.

    def sometimes_nan(student, teachers, batch, clock):
        values = losses.cross_entropy(student.logits, batch.labels)
        bad = (clock.epoch == 1) & (batch.ids == bad_examples).any()
        return values * jnp.where(bad, jnp.nan, 1)

    use_loss(monkeypatch, config, sometimes_nan)
    results = runs.run(config, tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["train_nonfinite"] for line in lines] == pytest.approx([0, 1 / 5, 0])
    assert np.isfinite([line["train_loss"] for line in lines]).all()
    assert results["student"]["test"] > 0.3

    bad_examples = np.arange(1000)[:, None]  # All examples are bad.
    with pytest.raises(DivergedError, match="NaN or infinity in every step of epoch 2; "):
        runs.run(config, tmp_path / "none")


def test_student_no_better_than_a_constant_predictor_is_warned_about(
    config, tmp_path, monkeypatch, caplog
):
    rng = np.random.default_rng(0)
    source = data.DATASETS["digits"](None)
    train = Examples(source.train.inputs, rng.permutation(source.train.labels))
    noise = dataclasses.replace(source, train=train)
    monkeypatch.setitem(data.DATASETS, "noise", lambda data_dir: noise)
    config.dataset.name = "noise"
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    (warning,) = [message for message in caplog.messages if "constant predictor" in message]
    assert warning.startswith("scratch seed 0: validation accuracy 0.")
    assert "try another learning rate (now 0.05) or more epochs (now" in warning


def test_scores_that_no_constant_predictor_has_are_not_warned_about(
    config, tmp_path, monkeypatch, caplog
):
    config.student.epochs = 1
    config.method = "scratch"
    use_scripted_scores(monkeypatch, config, [0.0])  # A metric without a constant predictor.
    runs.run(config, tmp_path / "metric")
    config.dataset.name = "digits"

    def evaluate(context):
        return lambda model, loss_variables: {"accuracy": 0.0}

    use_loss(monkeypatch, config, supervised_loss, evaluate=evaluate)
    runs.run(config, tmp_path / "evaluation")
    assert not [message for message in caplog.messages if "constant predictor" in message]
