import jax
import numpy as np
import pytest

from akd_jax import interrupts, processes, records, runs
from akd_jax.errors import StoppedError
from akd_jax.plan import STUDENT
from akd_jax.step import train_step
from tests.support import shared_run
from tests.support.launching import free_port, launch

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that pair.py has worked in, and before it a run here on four devices."""
    folder = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(interrupts, "stop_requested", shared_run.after(shared_run.LOOKS))
        with pytest.raises(StoppedError):
            runs.run(shared_run.config(), folder / "begun_alone")
    port = str(free_port())
    pair = [launch("-m", "tests.support.pair", str(number), port, folder) for number in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in pair]
    for process, output in zip(pair, outputs, strict=True):
        assert process.returncode == 0, output
        assert "stopped as asked" in output
    return folder


@pytest.mark.parametrize("name", shared_run.MODULES)
def test_two_processes_of_two_devices_are_four_devices_and_are_one(folder, name):
    assert jax.device_count() == 4
    module = shared_run.MODULES[name]
    four = shared_run.train(module)
    state, step = shared_run.state(module), jax.jit(train_step)
    for batch in shared_run.batches():
        state, _ = step(state, {}, batch, jax.numpy.int32(0))
    one = shared_run.flat(state.model.variables)
    for number in range(2):
        found = np.load(folder / f"parameters_{number}.npz")
        assert {path for path in found if path.startswith(name)} == {name + path for path in one}
        for path, expected in one.items():
            np.testing.assert_allclose(found[name + path], expected, **TOLERANCE)
            np.testing.assert_allclose(found[name + path], four[path], **TOLERANCE)


def students(workdir):
    return shared_run.flat(runs.load(workdir, teachers=False)[1][STUDENT].variables)


@pytest.fixture(scope="module")
def alone(folder):
    """The student of the same run on four devices here, never stopped."""
    runs.run(shared_run.config(), folder / "alone")
    return students(folder / "alone")


@pytest.mark.parametrize("name", ["begun_alone", "begun_by_two"])
def test_one_and_two_go_on_where_the_other_stopped(folder, alone, name):
    runs.run(shared_run.config(), folder / name)  # The first one is finished already.
    for path, value in students(folder / name).items():
        np.testing.assert_allclose(value, alone[path], **TOLERANCE)
    whole, found = (records.read(folder / n / records.RESULTS) for n in ("alone", name))
    for network in ("student", "teacher"):
        for score in ("validation", "test"):
            assert found[network][score] == pytest.approx(whole[network][score])
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6  # Written by one process, each epoch once.


def test_two_processes_store_the_logits_that_one_stores(folder, alone):
    del alone
    runs.run(shared_run.config(), folder / "begun_by_two")  # Finished already, or stopped.
    views = [
        sorted((folder / n / "teacher_logits").glob("*/*.npy")) for n in ("alone", "begun_by_two")
    ]
    assert len(views[0]) == len(views[1]) == 2
    for one, other in zip(*views, strict=True):
        np.testing.assert_allclose(np.load(one), np.load(other), **TOLERANCE)


def test_one_process_is_found_where_nothing_says_more(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert not processes.in_cluster()
    assert processes.count() == 1
    assert processes.is_primary()
    assert processes.on_primary(lambda: (1, 2)) == (1, 2)  # Simply called.


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
        {"JOB_COMPLETION_INDEX": "0"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
    ],
)
def test_several_processes_are_found_where_the_cluster_says_so(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.in_cluster()
