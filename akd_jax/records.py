"""What a run says of itself in its folder: config.json and results.json."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from akd_jax import parallel
from akd_jax.errors import InputError

CONFIG = "config.json"
RESULTS = "results.json"
_PACKAGES = ("akd_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Makes the folder this run's own, or finds that it is.

    Writes config.json: the configuration and the versions, devices and revision it ran with.

    Raises:
      InputError: the folder cannot be written, or holds the run of another configuration.
    """
    existing = read(folder / CONFIG)
    if existing is not None:
        differing = [
            f"{name} ({_show(before)} there, {_show(now)} here)"
            for name, before, now in _differences(existing["config"], _jsonable(config))
        ]
        if differing:
            raise InputError(
                f"{folder}: expected a run of this configuration, got one with another"
                f" {', '.join(differing[:3])}{' ...' if differing[3:] else ''};"
                " choose another workdir"
            )
    check_writable(folder)
    if existing is None:
        write(folder / CONFIG, {"config": config, "environment": _environment()})


def check_writable(folder: Path) -> None:
    """Raises InputError unless the folder, or the one it would be made in, can be written."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InputError(f"{folder}: expected a folder, got the file {nearest}; choose another")
    try:
        probe = nearest / f".akd_jax_{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: expected a folder that can be written, got {error.strerror!r};"
            " choose another or change its permissions"
        ) from None


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no such file.

    Raises:
      InputError: the file holds something else.
    """
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise InputError(f"{path}: expected JSON, got something else; restore or delete it") from (
            None
        )


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON object, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replacement = path.with_suffix(".tmp")
    replacement.write_text(json.dumps(record, indent=2) + "\n")
    replacement.replace(path)


def _differences(before: Any, now: Any, name: str = "config") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield name, before, now


def _jsonable(config: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(config))


def _show(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": parallel.describe(),
        "git_revision": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # Run from a checkout that was not installed.


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # An installed package, or no git.
