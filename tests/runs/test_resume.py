"""Runs that were killed or stopped, and resumed."""

import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import pytest

from akd_jax import runs
from akd_jax.host import interrupts
from akd_jax.host.errors import StoppedError
from tests.support.launching import GUARD_SECONDS, ROOT, launch
from tests.support.recorder import RecordingLoss
from tests.support.runs import (
    assert_same_run,
    checkpoint_folder,
    read_checkpoint,
    read_metrics,
    read_progress,
)
from tests.support.scripted import use_loss
from tests.support.stopping import stop_at_check


@pytest.mark.parametrize(
    "evaluation",
    [
        # By default, a run is stopped at other places, several times, and by a signal.
        pytest.param(4, id="stage_1", marks=pytest.mark.slow),
        pytest.param(8, id="stage_2", marks=pytest.mark.slow),
    ],
)
def test_killed_run_ends_like_an_undisturbed_run(
    config, teacher_path, tmp_path, finished_run, evaluation
):
    workdir = tmp_path / "run"
    arguments = ("-m", "tests.support.killed_run", workdir, teacher_path, evaluation)
    process = launch(*arguments, JAX_NUM_CPU_DEVICES="4")
    output, _ = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == -signal.SIGKILL, output
    # The kill is between two checkpoints, so that an epoch is trained twice.
    assert len(read_metrics(workdir)) == evaluation - 1
    assert not (workdir / "results.json").exists()
    config.teacher.path = teacher_path
    runs.run(config, workdir)
    assert_same_run(workdir, finished_run)


# The steps from each start to the next stop. Up to 9 more programs can run before the stop, fewer
# steps than the 50 of an epoch of batches of 20. With a whole epoch per program, the run can only
# be stopped between two epochs; there, an epoch has 5 steps, because 50 take minutes to compile.
@pytest.mark.parametrize(
    ("batch_size", "steps_per_loop", "stops_after"),
    [
        pytest.param(20, 1, (4, 54, 40), marks=pytest.mark.slow),
        (20, 2, (4, 54, 40)),
        pytest.param(200, 5, (4,), marks=pytest.mark.slow),
    ],
)
def test_run_stopped_several_times_ends_like_an_undisturbed_run(
    config, tmp_path, monkeypatch, batch_size, steps_per_loop, stops_after
):
    config.batch_size = batch_size
    config.student.epochs = 4
    config.steps_per_loop = steps_per_loop
    loss = RecordingLoss()
    use_loss(monkeypatch, config, loss, stages=2)
    runs.run(config, tmp_path / "undisturbed")
    jax.effects_barrier()
    once = {(epoch, i): 1 for epoch in range(4) for i in range(1000)}
    assert loss.examples == once

    loss.clear()
    for steps in stops_after:
        loss.stop_after = 4 * steps  # The loss runs on four devices.
        with interrupts.listen(), pytest.raises(StoppedError):
            runs.run(config, tmp_path / "stopped")
        jax.effects_barrier()
    runs.run(config, tmp_path / "stopped")
    jax.effects_barrier()
    assert loss.examples == once  # No step was missed or taken twice.
    assert_same_run(tmp_path / "stopped", tmp_path / "undisturbed")


def test_stop_within_an_epoch_saves_the_finished_steps(config, tmp_path, monkeypatch):
    config.batch_size = 20
    config.student.epochs = 1
    loss = RecordingLoss()
    use_loss(monkeypatch, config, loss)
    loss.stop_after = 1
    with interrupts.listen(), pytest.raises(StoppedError):
        runs.run(config, tmp_path)
    jax.effects_barrier()
    stage = tmp_path / "student/custom_0"
    progress = read_progress(stage)
    assert progress["epoch"] == 0
    assert 0 < progress["step"] < 50
    assert loss.examples.total() == 20 * progress["step"]
    assert int(checkpoint_folder(stage).name) == progress["step"]
    assert read_checkpoint(stage)["state"]["step"] == progress["step"]


# In every epoch, 5 checks are before its steps, one is after them, and one is before each of the
# two batches of the evaluation.
@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_every", [1, 100])
@pytest.mark.parametrize("check", [7, 8, 16])
def test_run_stopped_within_an_evaluation_ends_like_an_undisturbed_run(
    config, tmp_path, check, checkpoint_every
):
    config.method = "scratch"
    config.student.epochs = 3
    config.checkpoint_every = checkpoint_every
    with stop_at_check(check), pytest.raises(StoppedError, match="evaluation"):
        runs.run(config, tmp_path / "stopped")
    progress = read_progress(tmp_path / "stopped/student/scratch")
    assert (progress["epoch"], progress["step"]) == ((check - 1) // 8, 5)
    runs.run(config, tmp_path / "stopped")
    runs.run(config, tmp_path / "undisturbed")
    assert_same_run(tmp_path / "stopped", tmp_path / "undisturbed")


# Runs experiments.train, and sends SIGTERM to it at the third evaluation.
TERMINATED = """
import itertools, os, runpy, signal, sys
from akd_jax import metrics
accuracy, evaluations = metrics.METRICS["accuracy"], itertools.count(1)
def accuracy_with_signal(*args):
    if next(evaluations) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return accuracy(*args)
metrics.METRICS["accuracy"] = accuracy_with_signal
sys.argv[0] = "train"
runpy.run_module("experiments.train", run_name="__main__")
"""


def train(workdir, *start, **fields):
    """Runs experiments.train on `small_config` in another process."""
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return subprocess.run(
        [
            *(sys.executable, *start),
            *("--config=tests/support/configs.py", f"--workdir={workdir}", *overrides),
        ],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )


def test_train_command_stops_at_sigterm_and_resumes(teacher_path, tmp_path):
    fields = {"checkpoint_every": 5, "teacher.path": teacher_path}
    stopped = train(tmp_path / "run", "-c", TERMINATED, **fields)
    assert stopped.returncode == os.EX_TEMPFAIL, stopped.stderr
    assert stopped.stderr.count("\n") == 1
    assert re.match(r"error: .*: stopped by a signal", stopped.stderr)
    assert read_progress(tmp_path / "run/student/stage_1")["epoch"] >= 3
    resumed = train(tmp_path / "run", "-m", "experiments.train", **fields)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == ""  # There is no progress bar without a terminal.
    assert len(read_metrics(tmp_path / "run")) == 10


@pytest.mark.slow
def test_train_command_reports_a_finished_run(finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    again = train(workdir, "-m", "experiments.train")
    assert again.returncode == 0, again.stderr
    assert "finished; nothing was trained" in again.stdout
