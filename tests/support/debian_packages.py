"""Small Debian packages."""

import shutil
import subprocess

import pytest

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs Debian's dpkg-deb")


def build_package(files, archive):
    """Builds a package of the files in a folder, which gets the package's description."""
    control = "Package: program\nVersion: 1.0\nArchitecture: all\nMaintainer: N\nDescription: D\n"
    (files / "DEBIAN").mkdir()
    (files / "DEBIAN/control").write_text(control)
    archive.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "--build", files, archive], check=True, capture_output=True)
    return archive
