"""The JSON records in a run's folder (config.json, results.json) and the lock of that folder."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from akd_jax.host import processes
from akd_jax.host.errors import InputError
from akd_jax.host.files import (
    Path,
    absolute,
    catch_unreachable,
    is_remote,
    lock,
    not_writable,
    reason,
    replace_text,
)
from akd_jax.host.strict_json import replace_nonfinite

CONFIG = "config.json"
RESULTS = "results.json"
_PACKAGES = ("akd_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def lock_workdir(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    *,
    resume_key: Mapping[str, Any] | None = None,
    subfolders: Sequence[str] = (),
) -> Iterator[None]:
    """Creates or reopens a run's folder, and locks it while the context lasts.

    Writes config.json: the configuration, and the package versions, devices and git revision.
    Only the primary process reads and writes the folder. A remote folder is not locked.

    Args:
      folder: of the run; created if it does not exist.
      kind: 'run', 'teacher' or 'comparison'.
      config: the configuration to record.
      resume_key: the part of the configuration that must match to resume an existing run (for
        example everything except file paths); None for the whole configuration.
      subfolders: names inside the folder that must be folders if they exist.

    Raises:
      InputError: the folder cannot be written, was made by another program, holds a run with
        another configuration, or is locked by another process.
    """
    record = {"kind": kind, "config": config}
    record["resume_key"] = config if resume_key is None else resume_key
    record = _json_values(record, folder / CONFIG)
    with contextlib.ExitStack() as exit_stack:

        def check_and_lock() -> None:
            existing = check(folder, kind, record["resume_key"], subfolders=subfolders)
            _lock(folder, exit_stack)
            if existing is None:
                write(folder / CONFIG, {**record, "environment": _environment()})
            elif existing["config"] != record["config"]:  # Only file paths can differ here.
                write(folder / CONFIG, {**existing, **record})

        processes.on_primary(check_and_lock)
        yield


def _lock(folder: Path, exit_stack: contextlib.ExitStack) -> None:
    """Locks a folder until `exit_stack` is closed."""
    try:
        lock(folder, exit_stack, wait=False)
    except BlockingIOError:
        raise InputError(
            f"{folder}: expected no other process to use this folder, got one that does; wait"
            " until it ends or choose another workdir"
        ) from None
    except OSError as error:
        raise not_writable(folder, error) from None


def check(
    folder: Path, kind: str, resume_key: Mapping[str, Any], *, subfolders: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Checks that `lock_workdir` can use a folder; leaves nothing in it.

    Returns:
      The record in the folder's config.json; None if there is none.

    Raises:
      InputError: see `lock_workdir`.
    """
    existing = read_config(folder)
    if existing is not None:
        check_resume_key(folder, kind, existing, resume_key)
    for path in (folder, *(folder / name for name in subfolders)):
        check_writable(path)
    return existing


def check_resume_key(
    folder: Path,
    kind: str,
    existing: Mapping[str, Any],
    resume_key: Mapping[str, Any],
    *,
    remedy: str = "choose another workdir",
) -> None:
    """Checks that a folder's record has the expected kind and resume key.

    Args:
      folder: for the message.
      kind: the expected kind.
      existing: the record in the folder's config.json.
      resume_key: the expected resume key.
      remedy: what the message advises if the keys differ.

    Raises:
      InputError: the kind or the resume key differs; the message names the fields.
    """
    if existing["kind"] != kind:
        raise InputError(
            f"{folder}: expected the folder of a {kind}, got that of a {existing['kind']};"
            " choose another workdir"
        )
    expected = _json_values(resume_key, folder / CONFIG)
    differences = [
        f"{name} (recorded {_show(recorded)}, given {_show(given)})"
        for name, recorded, given in _differences(existing["resume_key"], expected)
    ]
    if differences:
        raise InputError(
            f"{folder}: expected a {kind} with this configuration, got one with a different"
            f" {', '.join(differences[:3])}{' ...' if differences[3:] else ''}; {remedy}"
        )


def check_writable(folder: Path) -> None:
    """Checks that a folder can be written, or created in its nearest existing parent.

    Raises:
      InputError: it cannot.
    """
    nearest = absolute(folder)
    if isinstance(nearest, pathlib.Path):
        while not (nearest.exists() or nearest.is_symlink()):
            nearest = nearest.parent
        if not nearest.is_dir():
            raise InputError(
                f"{folder}: expected a folder, got {nearest}, which is not a folder; choose another"
            )
    probe = nearest / f".akd_jax_{os.getpid()}"
    try:
        with catch_unreachable(str(folder)) if is_remote(nearest) else contextlib.nullcontext():
            probe.touch()
            probe.unlink(missing_ok=True)  # Another process can have the same number.
    except OSError as error:
        raise not_writable(folder, error) from None


def read_config(folder: Path) -> dict[str, Any] | None:
    """Reads the record in a folder's config.json; returns None if there is no such file.

    Raises:
      InputError: the file is not the record of a run.
    """
    record = read(folder / CONFIG)
    if record is not None and not {"kind", "config", "resume_key"} <= record.keys():
        raise InputError(
            f"{folder / CONFIG}: expected the record of a run, got a file of another program or"
            " of akd_jax 0.1.0; choose another workdir"
        )
    return record


def read(path: Path) -> dict[str, Any] | None:
    """Reads a JSON object from a file; returns None if there is no such file.

    Raises:
      InputError: the file cannot be read, or is not a JSON object.
    """
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"{path}: expected a readable file, got: {reason(error)}; correct its permissions"
        ) from None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InputError(
            f"{path}: expected a JSON object, got something else; restore or delete the file"
        )
    return record


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON object to a file in one atomic step; creates the folder.

    A number that is not finite is written as null, see `strict_json.replace_nonfinite`.

    Raises:
      InputError: the file cannot be written.
    """
    text = json.dumps(replace_nonfinite(record, path), indent=2, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise not_writable(path.parent, error) from None


def git_revision(file: pathlib.Path) -> str | None:
    """Returns the revision of the git checkout that tracks a file; None if there is none."""
    git = ["git", "-C", str(file.parent)]
    try:
        # An installed copy may lie inside another project's checkout, whose revision says
        # nothing about this package.
        tracked = [*git, "ls-files", "--error-unmatch", str(file)]
        subprocess.run(tracked, capture_output=True, check=True)
        command = [*git, "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _differences(recorded: Any, given: Any, name: str = "config") -> Iterator[tuple[str, Any, Any]]:
    """Yields the name and both values of each field that differs."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        for key in [*recorded, *(key for key in given if key not in recorded)]:
            yield from _differences(recorded.get(key), given.get(key), f"{name}.{key}")
    elif recorded != given:
        yield name, recorded, given


def _json_values(record: Mapping[str, Any], path: Path) -> Any:
    """Converts a record to what `read` would return after it was written to `path`."""
    return json.loads(json.dumps(replace_nonfinite(record, path), allow_nan=False))


def _show(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _environment() -> dict[str, Any]:
    """Describes the versions and devices that a run uses."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": processes.describe_devices(),
        "git_revision": git_revision(pathlib.Path(__file__)),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # The package runs from a checkout and is not installed.
