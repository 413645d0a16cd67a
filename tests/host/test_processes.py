import json

import jax
import numpy as np
import pytest

from akd_jax import runs
from akd_jax.host import processes, records
from akd_jax.host.errors import StoppedError
from akd_jax.runs.setup import STUDENT
from akd_jax.training.step import train_step
from tests.support import shared_run
from tests.support.launching import finish, free_port, launch
from tests.support.runs import read_progress
from tests.support.stopping import stop_at_check

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the results of one pair of processes; see pair.py.

    The run 'stopped' starts in this process and is stopped while the teacher is trained. The
    pair resumes it, stores the teacher's logits, and is stopped while the student is trained.
    This process resumes it again to its end. The run 'whole' is never stopped.
    """
    folder = tmp_path_factory.mktemp("pair")
    config = shared_run.make_config()
    with stop_at_check(shared_run.TEACHER_CHECK), pytest.raises(StoppedError, match="teacher"):
        runs.run(config, folder / "stopped")
    assert read_progress(folder / "stopped/teacher/scratch")["epoch"] == 1
    port = str(free_port())
    pair = [launch("-m", "tests.support.pair", number, port, folder) for number in range(2)]
    for process, output in zip(pair, finish(pair), strict=True):
        assert process.returncode == 0, output
        assert "stage_1: stopped by a signal" in output
        assert output.splitlines()[-1] == "finished"
    assert read_progress(folder / "stopped/student/stage_1")["epoch"] == 1
    runs.run(config, folder / "stopped")
    runs.run(config, folder / "whole")
    return folder


def test_two_processes_of_two_devices_train_like_four_devices_and_like_one(folder):
    assert jax.device_count() == 4
    four_devices = shared_run.train()
    state, step = shared_run.make_state(), jax.jit(train_step)
    for batch in shared_run.make_batches():
        state, _ = step(state, {}, batch, jax.numpy.int32(0))
    one_device = shared_run.flatten(state.model.variables)
    for number in range(2):
        variables = np.load(folder / f"variables_{number}.npz")
        assert set(variables) == set(one_device)
        for name, expected in one_device.items():
            np.testing.assert_allclose(variables[name], expected, **TOLERANCE)
            np.testing.assert_allclose(variables[name], four_devices[name], **TOLERANCE)


def load_student(workdir):
    return shared_run.flatten(runs.load(workdir, teachers=False)[1][STUDENT].variables)


def test_run_resumed_with_other_numbers_of_processes_equals_an_uninterrupted_run(folder):
    expected = load_student(folder / "whole")
    for name, value in load_student(folder / "stopped").items():
        np.testing.assert_allclose(value, expected[name], **TOLERANCE)
    whole, stopped = (records.read(folder / n / records.RESULTS) for n in ("whole", "stopped"))
    for network in ("student", "teacher"):
        for split in ("validation", "test"):
            assert stopped[network][split] == pytest.approx(whole[network][split])


def test_only_the_primary_process_writes_metrics(folder):
    lines = (folder / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 1, 2]


def test_two_processes_store_the_same_teacher_logits_as_one(folder):
    views = [
        sorted((folder / name / "teacher_logits").glob("*/*.npy")) for name in ("whole", "stopped")
    ]
    assert len(views[0]) == len(views[1]) == 2
    for one, two in zip(*views, strict=True):
        np.testing.assert_allclose(np.load(one), np.load(two), **TOLERANCE)


def test_without_a_cluster_there_is_one_process(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert not processes.in_cluster()
    assert processes.count() == 1
    assert processes.is_primary()
    assert processes.on_primary(lambda: (1, 2)) == (1, 2)  # The result does not pass JSON.


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
        {"JOB_COMPLETION_INDEX": "0"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
    ],
)
def test_environment_of_a_cluster_is_detected(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.in_cluster()
