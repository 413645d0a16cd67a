"""Paths as people give them: of this machine, or remote ones such as gs://BUCKET/FOLDER."""

import contextlib
import errno
import fcntl
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import TypeAlias

from etils import epath

from akd_jax.errors import InputError

# What both kinds of paths can do is what the library uses, but where it asks `is_remote`.
Path: TypeAlias = pathlib.Path | epath.Path
_LOCK = ".lock"


def as_path(value: str | os.PathLike[str]) -> Path:
    """A path as it is given; remote where it starts with gs://, s3:// or the like.

    Raises:
      InputError: no file can have such a name.
    """
    if "\0" in os.fspath(value):
        raise InputError(f"expected a path, got {value!r} with a null character; correct it")
    path = epath.Path(value)
    return path if "://" in str(path) else pathlib.Path(value)


def absolute(value: str | os.PathLike[str]) -> Path:
    """A path that means the same in every current folder."""
    path = as_path(value)
    return path.absolute() if isinstance(path, pathlib.Path) else path  # epath's would break it.


def readable_path(field: str, value: str) -> Path:
    """As `as_path`, of a path that is to be read.

    Args:
      field: that the path was given in, for the message.
      value: the path.

    Raises:
      InputError: it is remote, and out of reach.
    """
    path = as_path(value)
    if is_remote(path):
        with catch_unreachable(f"{field}: {path}"):
            path.exists()
    return path


def is_remote(path: Path) -> bool:
    """Whether a path is one that only etils.epath can read."""
    return not isinstance(path, pathlib.Path)


@contextlib.contextmanager
def catch_unreachable(name: str) -> Iterator[None]:
    """Raises InputError where a remote path cannot be reached: no access, no such bucket."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Each store has exceptions of its own.
        said = "not found" if isinstance(error, FileNotFoundError) else reason(error)
        raise InputError(
            f"{name}: expected a store that can be reached, got: {said}; check the name,"
            " and the credentials (gcloud auth application-default login)"
        ) from None


@functools.lru_cache(maxsize=16)
def local_copy(folder: Path, names: tuple[str, ...]) -> pathlib.Path:
    """A folder for libraries that read files of this machine only: itself, or a copy.

    Args:
      folder: perhaps remote.
      names: the files and folders in it that are copied, where they exist.
    """
    if isinstance(folder, pathlib.Path):
        return folder
    copy = pathlib.Path(tempfile.mkdtemp(prefix="akd_jax_"))
    with catch_unreachable(str(folder)):
        for name in names:
            _copy(folder / name, copy / name)
    return copy


def replace_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    if is_remote(path):
        path.write_text(text)  # Stores keep what was there until all of it has come.
    else:
        replacement = path.with_suffix(".tmp")
        replacement.write_text(text)
        replacement.replace(path)


def lock(folder: Path, held: contextlib.ExitStack, *, wait: bool) -> None:
    """Makes a folder and locks it until `held` is closed.

    A remote folder is not locked: no store that etils.epath reads has locks.

    Args:
      folder: what is locked.
      held: keeps the lock until it is closed.
      wait: whether to wait for another process that has it.

    Raises:
      BlockingIOError: another process has it.
      OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(folder, pathlib.Path):
        file = held.enter_context((folder / _LOCK).open("w"))
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def delete_tree(folder: Path) -> None:
    """Deletes a folder, as far as it is there and can be deleted."""
    if isinstance(folder, pathlib.Path):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.rmtree(missing_ok=True)


def reason(error: BaseException) -> str:
    """The first line of what an error says."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = str(said).splitlines()[0]
    full = os.strerror(errno.ENOSPC)
    return full if full in line else line  # TensorStore tells of each file that it was writing.


def not_writable(
    folder: Path,
    error: Exception,
    kind: str = "folder",
    remedy: str = "choose another or change its permissions",
) -> InputError:
    """The error for a folder of some kind that cannot be written."""
    full = os.strerror(errno.ENOSPC)  # TensorStore has no errno.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or full in str(error):
        remedy = "make room there, and give the same command again; what was saved before is kept"
    return InputError(
        f"{folder}: expected a {kind} that can be written, got: {reason(error)}; {remedy}"
    )


def _copy(source: Path, target: pathlib.Path) -> None:
    if source.is_dir():
        for path in source.iterdir():
            _copy(path, target / path.name)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy)
