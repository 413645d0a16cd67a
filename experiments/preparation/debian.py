"""Debian packages with the Spanish translations of programs; downloaded, but not installed."""

import os
import pathlib
import shutil
import subprocess

from absl import logging

from akd_jax.host.errors import InputError
from akd_jax.host.files import not_writable
from experiments.preparation import catalogs, parallel

# Packages of Debian 12 with many texts for their size. Together they are 170 MB large.
_NAMES = """
amule-common audacity-data binutils-common cinnamon-l10n claws-mail-i18n darktable digikam-data
evolution-common filezilla-common freeciv-data gcc-12-locales gimp-data git gnome-commander-data
gnucash-common gnumeric-common gnupg-l10n gramps gsettings-desktop-schemas inkscape k3b-i18n kig
kleopatra krita-l10n ktorrent-data libc-l10n libglib2.0-data libgtk-3-common libreoffice-l10n-es
libvirt-l10n neomutt pidgin-data rkward-data util-linux-locales vlc-l10n
"""
PACKAGES = tuple(_NAMES.split())
_CATALOGS = (  # What to do without packages.
    "give a folder with Spanish catalogs of gettext, such as --catalogs=/usr/share/locale"
)
_PROGRAMS = ("apt-get", "dpkg-deb")
# apt-get's messages about a package that this release of Debian does not have.
_UNKNOWN = ("Unable to locate package", "as it has no candidate")


def download_catalogs(folder: pathlib.Path) -> None:
    """Writes the Spanish catalogs of all packages to a folder.

    Those of a package are in the subfolder PACKAGE_VERSION_ARCHITECTURE, next to the file
    copyright. Existing subfolders are kept, so that a download that was stopped continues.

    Args:
      folder: the folder to write to.

    Raises:
      InputError: a program of Debian is missing, a package cannot be downloaded, or the folder
        cannot be written.
    """
    missing = [name for name in PACKAGES if not list(folder.glob(f"{name}_*"))]
    if missing:
        _check_programs()

    def download(package: str) -> bool:
        return _download(package, folder)

    try:
        label = f"catalogs of {len(missing)} packages"
        downloaded = list(parallel.run(download, missing, label))
    except OSError as error:
        raise not_writable(folder, error) from None
    unknown = [package for package, known in zip(missing, downloaded, strict=True) if not known]
    if len(unknown) == len(PACKAGES):
        raise InputError(
            f"expected apt-get to know the packages {', '.join(PACKAGES)}, got none; run apt-get"
            f" update, or {_CATALOGS}"
        )
    if unknown:
        logging.warning("apt-get does not know %s; their texts are left out", ", ".join(unknown))


def _check_programs() -> None:
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"expected the programs {', '.join(_PROGRAMS)} of Debian, got no {', '.join(missing)};"
            f" {_CATALOGS}"
        )


def _download(package: str, folder: pathlib.Path) -> bool:
    """Writes the catalogs of a package; returns False if apt-get does not know the package."""
    partial = folder / f".{package}"
    shutil.rmtree(partial, ignore_errors=True)  # What a killed process left.
    partial.mkdir(parents=True)
    try:
        reason = _run(partial, "apt-get", "download", "--quiet", package)
        if any(message in reason for message in _UNKNOWN):
            return False
        archives = list(partial.glob("*.deb"))
        if not reason and not archives:
            reason = "no file"
        if not reason:
            reason = _run(partial, "dpkg-deb", "--extract", archives[0].name, "files")
        if reason:
            raise InputError(
                f"expected to download the Debian package {package}, got: {reason}; run apt-get"
                f" update, or {_CATALOGS}"
            )
        _keep_catalogs(partial, package, folder / archives[0].stem)
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


def _keep_catalogs(partial: pathlib.Path, package: str, result: pathlib.Path) -> None:
    """Moves the catalogs of an extracted package, and its licences, to a folder."""
    files, kept = partial / "files", partial / "kept"
    licences = files / "usr/share/doc" / package / "copyright"
    for path in (*catalogs.find([files]), licences):
        if path.is_file():  # The licences can be a link to those of another package.
            target = kept / path.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    kept.mkdir(exist_ok=True)
    kept.rename(result)
