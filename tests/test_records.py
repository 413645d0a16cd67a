import json
import subprocess
import sys
from pathlib import Path

import pytest

from akd_jax import records
from akd_jax.errors import InputError


def lock_workdir(folder, config, **options):
    with records.lock_workdir(folder, "run", config, **options):
        pass


def test_a_claimed_folder_says_how_it_ran(tmp_path):
    lock_workdir(tmp_path / "run", {"seed": 1})
    found = records.read_config(tmp_path / "run")
    assert found["config"] == {"seed": 1}
    environment = found["environment"]
    assert environment["packages"]["jax"]
    assert environment["devices"] == {"kind": "cpu", "count": 4, "processes": 1}
    assert environment["git_revision"]


def test_the_same_configuration_may_come_again(tmp_path):
    lock_workdir(tmp_path, {"seed": 1, "sizes": (1, 2)})
    before = (tmp_path / records.CONFIG).read_bytes()
    lock_workdir(tmp_path, {"seed": 1, "sizes": (1, 2)})
    assert (tmp_path / records.CONFIG).read_bytes() == before


def test_another_configuration_is_refused_and_named(tmp_path):
    lock_workdir(tmp_path, {"seed": 1, "student": {"epochs": 3}})
    with pytest.raises(InputError, match=r"config.student.epochs \(3 there, 4 here\)"):
        lock_workdir(tmp_path, {"seed": 1, "student": {"epochs": 4}})
    with pytest.raises(InputError, match=r"config.new \(nothing there, 0 here\)"):
        lock_workdir(tmp_path, {"seed": 1, "student": {"epochs": 3}, "new": 0})


def test_places_outside_the_identity_may_change_and_are_recorded(tmp_path):
    lock_workdir(tmp_path, {"seed": 1, "path": "a"}, resume_key={"seed": 1})
    lock_workdir(tmp_path, {"seed": 1, "path": "b"}, resume_key={"seed": 1})
    found = records.read_config(tmp_path)
    assert found["config"]["path"] == "b"
    assert "environment" in found


def test_another_kind_is_refused(tmp_path):
    lock_workdir(tmp_path, {})
    with (
        pytest.raises(InputError, match="the folder of a teacher, got that of a run"),
        records.lock_workdir(tmp_path, "teacher", {}),
    ):
        pass


def test_a_second_process_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from akd_jax import records\n"
        "with records.lock_workdir(Path(sys.argv[1]), 'run', {}): pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parent.parent
    with records.lock_workdir(tmp_path, "run", {}):
        refused = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "expected to be the only process at work here" in refused.stderr
    assert subprocess.run(command, cwd=root, capture_output=True).returncode == 0


@pytest.mark.parametrize("make", ["file", "dangling", "long", "subfolder"])
def test_a_folder_that_cannot_be_made(tmp_path, make):
    folder = tmp_path / "run"
    if make == "file":
        folder.write_text("")
        folder /= "below"
    elif make == "dangling":
        folder.symlink_to(tmp_path / "nowhere")
    elif make == "long":
        folder /= "x" * 300
    else:
        folder.mkdir()
        (folder / "student").write_text("")
    with pytest.raises(InputError, match=r"expected a folder") as error:
        lock_workdir(folder, {}, subfolders=("student",))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / records.CONFIG).exists()


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # Not by permissions: the tests may run as root, who may write anywhere.
    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(InputError, match="can be written, got: Permission denied"):
        lock_workdir(tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_read(monkeypatch, tmp_path):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(InputError, match="expected a file to read, got: Permission denied"):
        lock_workdir(tmp_path, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config\.json: expected a JSON object"),
        ("[]", r"config\.json: expected a JSON object"),
        ("\udcff", r"config\.json: expected a JSON object"),
        ('{"hidden_size": 1}', "another program's; choose another workdir"),
    ],
)
def test_a_config_json_of_something_else(tmp_path, content, message):
    path = tmp_path / records.CONFIG
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        lock_workdir(tmp_path, {})
    assert path.read_bytes() == content.encode("utf-8", "surrogateescape")


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    records.write(path, {"a": 1})
    with pytest.raises(TypeError):
        records.write(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_a_checkout_of_somebody_else_says_nothing_of_this(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    assert records._git_revision() is None
