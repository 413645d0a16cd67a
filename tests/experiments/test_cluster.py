import json
import os
import signal
import subprocess
import time

import pytest

from tests.support.launching import free_port, launch

FIELDS = {
    "batch_size": 100,
    "checkpoint_every": 1,
    "teacher.model": "plain_cnn:8 M FC",
    "teacher.epochs": 1,
    "student.model": "plain_cnn:4 M FC",
}


def start(workdir, epochs, first="-m experiments.train", **environment):
    """A pair of processes that train a student on labels alone."""
    port = free_port()
    config = {**FIELDS, "student.epochs": epochs}
    return [
        launch(
            *first.split(),
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


def wait_until_it_trains(workdir):
    deadline = time.monotonic() + 120
    while not (workdir / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def end(pair):
    """The codes and the last lines of both."""
    try:
        outputs = [process.communicate(timeout=60)[0] for process in pair]
    finally:
        for process in pair:
            process.kill()
    return [process.returncode for process in pair], [out.splitlines()[-1] for out in outputs]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_other_and_both_go_on(tmp_path, lost):
    workdir = tmp_path / "run"
    pair = start(workdir, epochs=100_000 if lost else 16)
    wait_until_it_trains(workdir)
    pair[lost].send_signal(signal.SIGKILL)
    codes, lines = end(pair)  # Within a minute.
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] == os.EX_TEMPFAIL
    assert lines[1 - lost].startswith("error: ")
    assert "lost" in lines[1 - lost]
    assert "start all processes again with the same command" in lines[1 - lost]
    if lost == 0:
        done = len((workdir / "metrics.jsonl").read_text().splitlines())
        codes, lines = end(start(workdir, epochs=16))
        assert codes == [0, 0], lines
        records = [
            json.loads(line) for line in (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
        ]
        assert [record["epoch"] for record in records] == list(range(1, 17))
        assert done < 16


def test_a_process_that_raises_ends_the_other(tmp_path):
    pair = start(tmp_path / "run", epochs=100_000, first="-m tests.support.raising")
    codes, lines = end(pair)
    assert codes == [os.EX_TEMPFAIL, 1]
    assert (
        lines[1] == "error: process 1 of 2: failed as said above, which is a fault of the program"
    )
    assert "lost" in lines[0]


def test_a_notice_to_one_stops_both_with_everything_saved(tmp_path):
    pair = start(tmp_path / "run", epochs=100_000)
    wait_until_it_trains(tmp_path / "run")
    pair[1].send_signal(signal.SIGTERM)
    codes, lines = end(pair)
    assert codes == [os.EX_TEMPFAIL] * 2
    for number, line in enumerate(lines):
        assert line.startswith(f"error: process {number} of 2: ")
        assert "stopped by a signal; progress is saved, run the same command to resume" in line


def test_wrong_input_is_said_by_each(tmp_path):
    pair = start(tmp_path / "run", epochs=0)
    codes, lines = end(pair)
    assert codes == [1, 1]
    for number, line in enumerate(lines):
        assert line.startswith(f"error: process {number} of 2: config.student.epochs: ")


def test_some_of_the_flags_are_not_enough():
    flags = ["--config=configs/digits.py", "--workdir=x", "--num_processes=2"]
    process = launch("-m", "experiments.train", *flags)
    assert isinstance(process, subprocess.Popen)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith("error: expected --coordinator_address, --num_")
