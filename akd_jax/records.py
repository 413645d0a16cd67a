"""What a run says of itself in its folder: config.json and results.json."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from akd_jax import parallel, processes
from akd_jax.errors import InputError
from akd_jax.files import (
    Path,
    absolute,
    catch_unreachable,
    is_remote,
    lock,
    not_writable,
    reason,
    replace_text,
)

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
    """Makes a folder this run's own while the context lasts, or finds that it is.

    The primary process does, for all. A remote folder is not locked. Writes config.json: the
    configuration, and the versions, devices and revision it ran with.

    Args:
      folder: of the run; made where it does not exist.
      kind: 'run', 'teacher' or 'comparison'.
      config: what is recorded.
      resume_key: what a run found in the folder must agree in, such as the configuration
        without the places of files; None for all of the configuration.
      subfolders: names that must be folders, where they exist.

    Raises:
      InputError: the folder cannot be written, holds something else, the run of another
        configuration, or one that another process is working on.
    """
    resume_key = _jsonable(config if resume_key is None else resume_key)
    record = {"kind": kind, "config": _jsonable(config), "resume_key": resume_key}
    with contextlib.ExitStack() as held:

        def take() -> None:
            existing = check(folder, kind, resume_key, subfolders=subfolders)
            _lock(folder, held)
            if existing is None:
                write(folder / CONFIG, {**record, "environment": _environment()})
            elif existing["config"] != record["config"]:  # Files were moved.
                write(folder / CONFIG, {**existing, **record})

        processes.on_primary(take)
        yield


def _lock(folder: Path, held: contextlib.ExitStack) -> None:
    """Makes a folder this process's own until `held` is closed."""
    try:
        lock(folder, held, wait=False)
    except BlockingIOError:
        raise InputError(
            f"{folder}: expected to be the only process at work here, found another one;"
            " wait for its end or choose another workdir"
        ) from None
    except OSError as error:
        raise not_writable(folder, error) from None


def check(
    folder: Path, kind: str, resume_key: Mapping[str, Any], *, subfolders: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Checks that a folder can be claimed, without writing; returns the record it holds.

    Raises:
      InputError: as `lock_workdir`.
    """
    existing = read_config(folder)
    if existing is not None:
        check_resume_key(folder, kind, existing, resume_key)
    for place in (folder, *(folder / name for name in subfolders)):
        check_writable(place)
    return existing


def check_resume_key(
    folder: Path,
    kind: str,
    existing: Mapping[str, Any],
    resume_key: Mapping[str, Any],
    *,
    remedy: str = "choose another workdir",
) -> None:
    """Checks that a folder's record is of a kind, and agrees with an resume_key.

    Raises:
      InputError: it is of another kind, or differs; the message names where.
    """
    if existing["kind"] != kind:
        raise InputError(
            f"{folder}: expected the folder of a {kind}, got that of a {existing['kind']};"
            " choose another workdir"
        )
    differing = [
        f"{name} ({_show(before)} there, {_show(now)} here)"
        for name, before, now in _differences(existing["resume_key"], _jsonable(resume_key))
    ]
    if differing:
        raise InputError(
            f"{folder}: expected a {kind} of this configuration, got one with another"
            f" {', '.join(differing[:3])}{' ...' if differing[3:] else ''}; {remedy}"
        )


def check_writable(folder: Path) -> None:
    """Raises InputError unless the folder, or the one it would be made in, can be written."""
    nearest = absolute(folder)
    if isinstance(nearest, pathlib.Path):
        while not (nearest.exists() or nearest.is_symlink()):
            nearest = nearest.parent
        if not nearest.is_dir():
            raise InputError(
                f"{folder}: expected a folder, got {nearest}, which is none; choose another"
            )
    probe = nearest / f".akd_jax_{os.getpid()}"
    try:
        with catch_unreachable(str(folder)) if is_remote(nearest) else contextlib.nullcontext():
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise not_writable(folder, error) from None


def read_config(folder: Path) -> dict[str, Any] | None:
    """The record in a folder's config.json; None where there is none.

    Raises:
      InputError: the file holds something else.
    """
    record = read(folder / CONFIG)
    if record is not None and not {"kind", "config", "resume_key"} <= record.keys():
        raise InputError(
            f"{folder / CONFIG}: expected the record of a run, got another program's; choose"
            " another workdir"
        )
    return record


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no such file.

    Raises:
      InputError: the file holds something else or cannot be read.
    """
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: expected a file to read, got: {reason(error)}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"{path}: expected a JSON object, got something else; restore or delete it"
        )
    return found


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON object, whole or not at all.

    Raises:
      InputError: it cannot be written.
    """
    text = json.dumps(record, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise not_writable(path.parent, error) from None


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
    """The revision of the checkout that this file is tracked in; None elsewhere."""
    git = ["git", "-C", str(pathlib.Path(__file__).parent)]
    try:
        # Installed into somebody else's checkout, their revision would say nothing of this.
        tracked = [*git, "ls-files", "--error-unmatch", __file__]
        subprocess.run(tracked, capture_output=True, check=True)
        command = [*git, "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
