"""Files of Debian packages, which are downloaded but not installed."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import urllib.parse
from collections.abc import Sequence

from absl import logging

from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable
from experiments.preparation import parallel

_PROGRAMS = ("apt-get", "dpkg-deb")
# apt-get's messages about a package that this release of Debian does not have.
_UNKNOWN = ("Unable to locate package", "as it has no candidate")


@dataclasses.dataclass(frozen=True)
class Packages:
    """Packages to download.

    Attributes:
      names: the names of the packages.
      files: patterns of the files to keep, such as '*.mo', anywhere in a package.
      remedy: what to do without the packages, for the end of an error message.
      all_required: whether it is an error if apt-get does not know one of the packages. Otherwise
        such packages are left out with a warning, unless none is left.
    """

    names: Sequence[str]
    files: Sequence[str]
    remedy: str
    all_required: bool = False


def require_local(data_dir: Path) -> pathlib.Path:
    """Returns the folder of a data set, which programs of Debian can only write if it is local.

    Raises:
      InputError: the folder is remote.
    """
    if not isinstance(data_dir, pathlib.Path):
        raise InputError(
            f"--data_dir: expected a local folder, got {data_dir}; choose one, and copy the result"
        )
    return data_dir


def download(packages: Packages, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Writes the wanted files of all packages to a folder.

    Those of a package are in the subfolder PACKAGE_VERSION_ARCHITECTURE, next to the file
    copyright. Existing subfolders are kept, so that a download that was stopped continues.

    Args:
      packages: the packages, and what to keep of them.
      folder: the folder to write to.

    Returns:
      The subfolder of each package, except for those that apt-get does not know.

    Raises:
      InputError: a program of Debian is missing, a package cannot be downloaded, or the folder
        cannot be written.
    """
    missing = [name for name in packages.names if not _subfolders(folder, name)]
    if missing:
        _check_programs(packages.remedy)

    def download_one(name: str) -> bool:
        return _download(name, packages, folder)

    try:
        label = f"download of {len(missing)} Debian packages"
        downloaded = list(parallel.run(download_one, missing, label))
    except OSError as error:
        raise not_writable(folder, error) from None
    unknown = [name for name, known in zip(missing, downloaded, strict=True) if not known]
    if unknown and (packages.all_required or len(unknown) == len(packages.names)):
        got = "none" if len(unknown) == len(packages.names) else f"no {', '.join(unknown)}"
        raise InputError(
            f"expected apt-get to know the packages {', '.join(packages.names)}, got {got}; run"
            f" apt-get update, or {packages.remedy}"
        )
    if unknown:
        logging.warning("apt-get does not know %s; their texts are left out", ", ".join(unknown))
    return {name: _subfolders(folder, name)[0] for name in packages.names if name not in unknown}


def version(path: pathlib.Path) -> str:
    """Returns the version of a package, such as 4:7.4.7-1+deb12u14, from its subfolder."""
    return urllib.parse.unquote(path.name.split("_")[1])


def _subfolders(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    return sorted(folder.glob(f"{name}_*"))


def _check_programs(remedy: str) -> None:
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"expected the programs {', '.join(_PROGRAMS)} of Debian, got no {', '.join(missing)};"
            f" {remedy}"
        )


def _download(name: str, packages: Packages, folder: pathlib.Path) -> bool:
    """Writes the files of a package; returns False if apt-get does not know the package."""
    partial = folder / f".{name}"
    shutil.rmtree(partial, ignore_errors=True)  # What a killed process left.
    partial.mkdir(parents=True)
    try:
        reason = _run(partial, "apt-get", "download", "--quiet", name)
        if any(message in reason for message in _UNKNOWN):
            return False
        archives = list(partial.glob("*.deb"))
        if not reason and not archives:
            reason = "no file"
        if not reason:
            reason = _run(partial, "dpkg-deb", "--extract", archives[0].name, "files")
        if reason:
            raise InputError(
                f"expected to download the Debian package {name}, got: {reason}; run apt-get"
                f" update, or {packages.remedy}"
            )
        _keep(partial, name, packages.files, folder / archives[0].stem)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _run(folder: pathlib.Path, *command: str) -> str:
    """Runs a program in a folder; returns the last line of its error, empty if it succeeded."""
    process = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},  # `_UNKNOWN` is English.
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if process.returncode == 0:
        return ""
    return (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]


def _keep(partial: pathlib.Path, name: str, patterns: Sequence[str], result: pathlib.Path) -> None:
    """Moves the wanted files of an extracted package, and its licences, to a folder."""
    files, kept = partial / "files", partial / "kept"
    wanted = {path for pattern in patterns for path in files.rglob(pattern)}
    for path in (*wanted, files / "usr/share/doc" / name / "copyright"):
        if path.is_file():  # The licences can be a link to those of another package.
            target = kept / path.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    kept.mkdir(exist_ok=True)
    kept.rename(result)
