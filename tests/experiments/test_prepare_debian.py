"""The download of Debian packages, of small packages; a script replaces apt-get."""

import logging

import pytest

from akd_jax.host.errors import StoppedError
from experiments.preparation import debian
from tests.support.debian_packages import build_package, needs_dpkg
from tests.support.errors import error_of
from tests.support.programs import replace_program
from tests.support.stopping import stop_at_check

NAMES = [f"program-{letter}" for letter in "abcdefghijklmnop"]
PACKAGES = debian.Packages(NAMES, ["es/LC_MESSAGES/*.mo", "help/*.html"], "ask somebody else")
WANTED = ["usr/share/locale/es/LC_MESSAGES/a.mo", "usr/share/help/a.html"]
OTHERS = ["usr/share/locale/fr/LC_MESSAGES/a.mo", "usr/share/help/a.png", "usr/share/a.html"]


def licences(name):
    return f"usr/share/doc/{name}/copyright"


def build(folder):
    """A package with wanted and other files, and the licences of all packages."""
    for name in [*WANTED, *OTHERS, *map(licences, NAMES)]:
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is {name}.")
    return build_package(folder / "files", folder / "program.deb")


@needs_dpkg
def test_wanted_files_and_licences_are_downloaded_once(tmp_path, monkeypatch, caplog):
    archive, requests = build(tmp_path), tmp_path / "requests"
    script = f"""
    echo "$3" >> {requests}
    if [ "$3" = program-c ]; then echo "E: Unable to locate package $3" >&2; exit 100; fi
    cp {archive} "$3_1%3a2.0-1_all.deb"
    """
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", script)
    folder = tmp_path / "packages"
    stopped = "download of 16 Debian packages: stopped"
    with stop_at_check(6), pytest.raises(StoppedError, match=stopped):
        debian.download(PACKAGES, folder)
    finished = {path.name.partition("_")[0] for path in folder.iterdir()}
    assert len(finished) >= 5
    (folder / ".program-p").mkdir()  # What a killed process leaves.
    (folder / ".program-p/half.deb").touch()
    requests.unlink()
    with caplog.at_level(logging.WARNING):
        folders = debian.download(PACKAGES, folder)
    assert [record.getMessage() for record in caplog.records] == [
        "apt-get does not know program-c; their texts are left out"
    ]
    assert not finished & {*requests.read_text().split()}
    known = [name for name in NAMES if name != "program-c"]
    assert folders == {name: folder / f"{name}_1%3a2.0-1_all" for name in known}
    assert {debian.version(path) for path in folders.values()} == {"1:2.0-1"}
    assert sorted(folder.iterdir()) == sorted(folders.values())
    for name, path in folders.items():
        files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
        assert files == {*WANTED, licences(name)}
        assert (path / licences(name)).read_text() == f"This is {licences(name)}."


@pytest.mark.parametrize(
    ("script", "start"),
    [
        (
            "echo 'E: Unable to locate package x' >&2; exit 100",
            f"expected apt-get to know the packages {', '.join(NAMES)}, got none",
        ),
        (
            "echo E: Package x has no candidate, as it has no candidate >&2; exit 1",
            f"expected apt-get to know the packages {', '.join(NAMES)}, got none",
        ),
        (
            "echo 'W: old' >&2; echo 'E: Could not resolve host' >&2; exit 100",
            "expected to download the Debian package program-a, got: E: Could not resolve host",
        ),
        ("exit 0", "expected to download the Debian package program-a, got: no file"),
        ("exit 3", "expected to download the Debian package program-a, got: exit code 3"),
        (
            "echo junk > x_1_all.deb",
            "expected to download the Debian package program-a, got: dpkg-deb: error",
        ),
    ],
)
@needs_dpkg
def test_failing_download_is_reported(tmp_path, monkeypatch, script, start):
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", script)
    message = error_of(debian.download, PACKAGES, tmp_path / "packages")
    assert message.startswith(start)
    assert message.endswith("; run apt-get update, or ask somebody else")
    assert not any((tmp_path / "packages").iterdir())


@needs_dpkg
def test_unknown_package_is_an_error_if_all_are_required(tmp_path, monkeypatch):
    archive = build(tmp_path)
    script = f"""
    if [ "$3" = c ]; then echo "E: Unable to locate package $3" >&2; exit 100; fi
    cp {archive} "$3_1_all.deb"
    """
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", script)
    packages = debian.Packages(("b", "c", "d"), ("*.mo",), "ask somebody else", all_required=True)
    assert error_of(debian.download, packages, tmp_path / "packages") == (
        "expected apt-get to know the packages b, c, d, got no c; run apt-get update, or ask"
        " somebody else"
    )


def test_missing_programs_are_reported_unless_nothing_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    packages = debian.Packages(("b", "c"), ("*.mo",), "ask somebody else")
    assert error_of(debian.download, packages, tmp_path) == (
        "expected the programs apt-get, dpkg-deb of Debian, got no apt-get, dpkg-deb; ask somebody"
        " else"
    )
    for name in ("b_1_all", "c_2_all"):
        (tmp_path / name).mkdir()
    assert debian.download(packages, tmp_path) == {
        "b": tmp_path / "b_1_all",
        "c": tmp_path / "c_2_all",
    }


@needs_dpkg
def test_folder_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", "exit 1")
    (tmp_path / "packages").touch()
    message = error_of(debian.download, PACKAGES, tmp_path / "packages")
    assert message.startswith(f"{tmp_path / 'packages'}: expected a folder that can be written")
