"""Launchers as two processes: loss of one, a signal, errors and resuming.

Tests wait for events. The time limit only guards against hanging.
"""

import json
import os
import signal
import time

import pytest

from tests.support.launching import GUARD_SECONDS, finish, free_port, launch

FIELDS = {
    "batch_size": 100,
    "checkpoint_every": 1,
    "teacher.model": "plain_cnn:8 M FC",
    "teacher.epochs": 1,
    "student.model": "plain_cnn:4 M FC",
}


def start(workdir, epochs, program="experiments.train", **environment):
    """Starts two processes that train a student from labels, each with two devices."""
    port = free_port()
    config = {**FIELDS, "student.epochs": epochs}
    return [
        launch(
            "-m",
            program,
            "--config=configs/digits.py:scratch",
            f"--workdir={workdir}",
            f"--coordinator_address=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={number}",
            *(f"--config.{name}={value}" for name, value in config.items()),
            **environment,
        )
        for number in range(2)
    ]


def recorded_epochs(workdir):
    metrics = workdir / "metrics.jsonl"
    if not metrics.exists():
        return []
    complete_lines = metrics.read_text().split("\n")[:-1]
    return [json.loads(line)["epoch"] for line in complete_lines]


def wait_for_epochs(workdir, count, pair):
    """Waits until the pair has recorded a number of epochs."""
    deadline = time.monotonic() + GUARD_SECONDS
    while len(recorded_epochs(workdir)) < count:
        running = [process.poll() is None for process in pair]
        if not all(running) or time.monotonic() > deadline:
            codes, lines = wait_for_end(pair)
            pytest.fail(f"expected {count} epochs, got an end with {codes}: {lines}")
        time.sleep(0.1)


def wait_for_end(pair):
    """Returns the exit codes and the last lines of both processes."""
    outputs = finish(pair)
    lines = [(output.splitlines() or [""])[-1] for output in outputs]
    return [process.returncode for process in pair], lines


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_loss_of_one_process_ends_the_other_and_the_same_command_resumes(tmp_path, lost):
    program = "tests.support.killed_launcher"
    codes, lines = wait_for_end(start(tmp_path, 4, program, KILLED_PROCESS=str(lost)))
    assert (codes[lost], codes[1 - lost]) == (-signal.SIGKILL, os.EX_TEMPFAIL)
    line = lines[1 - lost]
    assert line.startswith("error: ")
    assert "lost" in line
    assert "run the same command again on all processes to resume" in line
    assert recorded_epochs(tmp_path) in ([1], [1, 2])  # Process 0 may have recorded the second one.

    codes, lines = wait_for_end(start(tmp_path, 4))
    assert codes == [0, 0], lines
    assert recorded_epochs(tmp_path) == [1, 2, 3, 4]


@pytest.mark.slow
def test_signal_to_one_process_stops_both(tmp_path):
    pair = start(tmp_path, epochs=100_000)  # More epochs than fit in the time of any test.
    wait_for_epochs(tmp_path, 1, pair)
    pair[1].send_signal(signal.SIGTERM)
    codes, lines = wait_for_end(pair)
    assert codes == [os.EX_TEMPFAIL] * 2
    for number, line in enumerate(lines):
        assert line.startswith(f"error: process {number} of 2: ")
        assert "stopped by a signal" in line


@pytest.mark.slow
def test_process_that_raises_ends_the_other(tmp_path):
    pair = start(tmp_path / "run", epochs=100_000, program="tests.support.raising")
    codes, lines = wait_for_end(pair)
    assert codes == [os.EX_TEMPFAIL, 1]
    message = "failed with the exception above, which is a bug in the program"
    assert lines[1] == f"error: process 1 of 2: {message}"
    assert "lost" in lines[0]


@pytest.mark.slow
def test_each_process_reports_a_wrong_field(tmp_path):
    codes, lines = wait_for_end(start(tmp_path / "run", epochs=0))
    assert codes == [1, 1]
    for number, line in enumerate(lines):
        assert line.startswith(f"error: process {number} of 2: config.student.epochs: ")
