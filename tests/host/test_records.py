import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from akd_jax.host import records
from akd_jax.host.errors import InputError
from tests.support.launching import GUARD_SECONDS, start_python, wait_for_line

HOLD_THE_LOCK = """
import contextlib, sys
from pathlib import Path
from akd_jax.host.files import lock  # Without JAX, which takes seconds to import.
with contextlib.ExitStack() as exit_stack:
    lock(Path(sys.argv[1]), exit_stack, wait=False)
    print("locked", flush=True)
    sys.stdin.read()  # Until the test kills this process.
"""


def lock_workdir(folder, config, **options):
    with records.lock_workdir(folder, "run", config, **options):
        pass


def strict_json(text):
    """Parses JSON as the standard defines it: NaN and Infinity are errors."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_config_json_records_configuration_and_environment(tmp_path):
    lock_workdir(tmp_path / "run", {"seed": 1})
    record = records.read_config(tmp_path / "run")
    assert record["config"] == {"seed": 1}
    environment = record["environment"]
    assert environment["packages"]["jax"]
    assert environment["devices"] == {"kind": "cpu", "count": 4, "processes": 1}
    assert environment["git_revision"] == records.git_revision(Path(records.__file__))


def test_same_configuration_can_reopen_the_folder(tmp_path):
    lock_workdir(tmp_path, {"seed": 1, "sizes": (1, 2)})
    before = (tmp_path / records.CONFIG).read_bytes()
    lock_workdir(tmp_path, {"seed": 1, "sizes": (1, 2)})
    assert (tmp_path / records.CONFIG).read_bytes() == before


def test_different_configuration_is_refused_with_the_field_names(tmp_path):
    lock_workdir(tmp_path, {"seed": 1, "student": {"epochs": 3}})
    with pytest.raises(InputError, match=r"config.student.epochs \(recorded 3, given 4\)"):
        lock_workdir(tmp_path, {"seed": 1, "student": {"epochs": 4}})
    with pytest.raises(InputError, match=r"config.new \(recorded nothing, given 0\)"):
        lock_workdir(tmp_path, {"seed": 1, "student": {"epochs": 3}, "new": 0})


def test_fields_outside_the_resume_key_may_change_and_are_updated(tmp_path):
    lock_workdir(tmp_path, {"seed": 1, "path": "a"}, resume_key={"seed": 1})
    lock_workdir(tmp_path, {"seed": 1, "path": "b"}, resume_key={"seed": 1})
    record = records.read_config(tmp_path)
    assert record["config"]["path"] == "b"
    assert "environment" in record


def test_folder_of_another_kind_is_refused(tmp_path):
    lock_workdir(tmp_path, {})
    with (
        pytest.raises(InputError, match="the folder of a teacher, got that of a run"),
        records.lock_workdir(tmp_path, "teacher", {}),
    ):
        pass


def test_folder_locked_by_another_process_is_refused_until_that_process_dies(tmp_path):
    with start_python("-c", HOLD_THE_LOCK, tmp_path) as process:
        wait_for_line(process, "locked")
        message = "expected no other process to use this folder, got one that does; wait"
        with pytest.raises(InputError, match=message):
            lock_workdir(tmp_path, {})
        process.kill()
        process.wait(GUARD_SECONDS)
        lock_workdir(tmp_path, {})


@pytest.mark.parametrize("obstacle", ["file", "dangling link", "long name", "file as subfolder"])
def test_folder_that_cannot_be_created_is_refused_in_one_line(tmp_path, obstacle):
    folder = tmp_path / "run"
    if obstacle == "file":
        folder.write_text("")
        folder /= "below"
    elif obstacle == "dangling link":
        folder.symlink_to(tmp_path / "nowhere")
    elif obstacle == "long name":
        folder /= "x" * 300
    else:
        folder.mkdir()
        (folder / "student").write_text("")
    with pytest.raises(InputError, match=r"expected a folder") as error:
        lock_workdir(folder, {}, subfolders=("student",))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / records.CONFIG).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="uses a folder that Linux protects")
def test_folder_that_cannot_be_written_is_refused():
    # Root can write to almost every folder, but not to /sys.
    reasons = "(Permission denied|Operation not permitted|Read-only file system)"
    with pytest.raises(InputError, match=f"can be written, got: {reasons}"):
        lock_workdir(Path("/sys/run"), {})


def test_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / records.CONFIG).mkdir()
    with pytest.raises(InputError, match="expected a readable file, got: Is a directory"):
        lock_workdir(tmp_path, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config\.json: expected a JSON object"),
        ("[]", r"config\.json: expected a JSON object"),
        ("\udcff", r"config\.json: expected a JSON object"),
        ('{"hidden_size": 1}', r"a file of another program or .*; choose another workdir"),
    ],
)
def test_config_json_of_another_program_is_refused_and_kept(tmp_path, content, message):
    path = tmp_path / records.CONFIG
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        lock_workdir(tmp_path, {})
    assert path.read_bytes() == content.encode("utf-8", "surrogateescape")


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "results.json"
    records.write(path, {"a": 1})
    with pytest.raises(TypeError):
        records.write(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_nonfinite_numbers_are_written_as_null(tmp_path, caplog):
    path = tmp_path / "results.json"
    scores = {"pearson": np.float64("nan"), "losses": [1.0, math.inf, (-math.inf, 2)]}
    records.write(path, {"stages": [scores], "seconds": 0.5})
    expected = {"stages": [{"pearson": None, "losses": [1.0, None, [None, 2]]}], "seconds": 0.5}
    assert strict_json(path.read_text()) == expected
    assert records.read(path) == expected
    (warning,) = caplog.messages
    assert warning == (
        f"{path}: expected finite numbers, got NaN or infinity in stages.0.pearson,"
        " stages.0.losses.1, stages.0.losses.2.0; null is written instead"
    )


def test_configuration_with_an_infinite_number_can_resume(tmp_path):
    for _ in range(2):
        lock_workdir(tmp_path, {"clip_norm": math.inf})
    assert strict_json((tmp_path / records.CONFIG).read_text())["config"] == {"clip_norm": None}


def test_revision_of_another_projects_checkout_is_not_recorded(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=GUARD_SECONDS)
    (tmp_path / "records.py").touch()
    assert records.git_revision(tmp_path / "records.py") is None
