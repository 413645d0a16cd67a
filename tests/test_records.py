import pytest

from akd_jax import records
from akd_jax.errors import InputError


def test_a_claimed_folder_says_how_it_ran(tmp_path):
    records.claim(tmp_path / "run", {"seed": 1})
    found = records.read(tmp_path / "run" / records.CONFIG)
    assert found["config"] == {"seed": 1}
    environment = found["environment"]
    assert environment["packages"]["jax"]
    assert environment["devices"] == {"kind": "cpu", "count": 4, "processes": 1}


def test_the_same_configuration_may_come_again(tmp_path):
    records.claim(tmp_path, {"seed": 1, "sizes": (1, 2)})
    before = (tmp_path / records.CONFIG).read_bytes()
    records.claim(tmp_path, {"seed": 1, "sizes": (1, 2)})
    assert (tmp_path / records.CONFIG).read_bytes() == before


def test_another_configuration_is_refused_and_named(tmp_path):
    records.claim(tmp_path, {"seed": 1, "student": {"epochs": 3}})
    with pytest.raises(InputError, match=r"config.student.epochs \(3 there, 4 here\)"):
        records.claim(tmp_path, {"seed": 1, "student": {"epochs": 4}})
    with pytest.raises(InputError, match=r"config.new \(nothing there, 0 here\)"):
        records.claim(tmp_path, {"seed": 1, "student": {"epochs": 3}, "new": 0})


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder, got the file"):
        records.check_writable(tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # Not by permissions: the tests may run as root, who may write anywhere.
    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(InputError, match="can be written, got 'Permission denied'"):
        records.claim(tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_json(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: expected JSON"):
        records.read(tmp_path / "config.json")
