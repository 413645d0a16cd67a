"""Paths of local files and remote stores (gs://BUCKET/FOLDER); locks and atomic writes."""

import atexit
import contextlib
import errno
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import TypeAlias

import filelock
from etils import epath

from akd_jax.host.errors import InputError

# The package only uses methods that both classes have, except where it checks `is_remote`.
Path: TypeAlias = pathlib.Path | epath.Path
_LOCK = ".lock"


def as_path(value: str | os.PathLike[str]) -> Path:
    """Converts a value to a path; a URL such as gs://... or s3://... gives a remote path.

    Raises:
      InputError: the value has a null character, which no file name can have.
    """
    if "\0" in os.fspath(value):
        raise InputError(f"expected a path, got {value!r} with a null character; correct it")
    path = epath.Path(value)
    return path if "://" in str(path) else pathlib.Path(value)


def absolute(value: str | os.PathLike[str]) -> Path:
    """Converts a value to a path that does not depend on the current folder."""
    path = as_path(value)
    # epath's `absolute` would damage the URL of a remote path.
    return path.absolute() if isinstance(path, pathlib.Path) else path


def readable_path(field: str, value: str) -> Path:
    """Like `as_path`, for a path to read; checks that a remote store can be reached.

    Args:
      field: the configuration field or flag that holds the path, for the message.
      value: the path.

    Raises:
      InputError: the path is remote and its store cannot be reached.
    """
    path = as_path(value)
    if is_remote(path):
        with catch_unreachable(f"{field}: {path}"):
            path.exists()
    return path


def is_remote(path: Path) -> bool:
    """Whether a path belongs to a remote store, which only etils.epath can read."""
    return not isinstance(path, pathlib.Path)


@contextlib.contextmanager
def catch_unreachable(name: str) -> Iterator[None]:
    """Converts errors of a remote store, such as a missing bucket or no access, to InputError.

    Args:
      name: the path, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Each store has its own exception classes.
        message = "not found" if isinstance(error, FileNotFoundError) else reason(error)
        raise InputError(
            f"{name}: expected a store that can be reached, got: {message}; check the name,"
            " and the credentials (gcloud auth application-default login)"
        ) from None


@functools.lru_cache(maxsize=16)
def local_copy(folder: Path, names: tuple[str, ...]) -> pathlib.Path:
    """Returns a local folder with the content of a folder, for libraries that need one.

    Args:
      folder: a local folder, which is returned itself, or a remote one, which is copied.
      names: the files and folders in it to copy; missing ones are skipped.
    """
    if isinstance(folder, pathlib.Path):
        return folder
    copy = temporary_folder()
    with catch_unreachable(str(folder)):
        for name in names:
            _copy(folder / name, copy / name)
    return copy


def temporary_folder() -> pathlib.Path:
    """Creates a local folder that is deleted when the process ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="akd_jax_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def replace_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8 in one atomic step: a reader sees the old text or the new text."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one atomic step: a reader sees the old content or the new content."""
    if is_remote(path):
        # A store keeps the old file until the upload is complete.
        path.write_bytes(content)
    else:
        replacement = path.with_suffix(".tmp")
        replacement.write_bytes(content)
        replacement.replace(path)


def lock(folder: Path, exit_stack: contextlib.ExitStack, *, wait: bool) -> None:
    """Creates a folder and locks it against other processes until `exit_stack` is closed.

    The operating system releases the lock when the process ends, even if it is killed. On a file
    system without such locks, filelock uses a lock file instead, which a killed process can leave
    behind. A remote folder is created but not locked, because the stores that etils.epath reads
    have no locks.

    Args:
      folder: the folder to lock.
      exit_stack: releases the lock when it is closed.
      wait: whether to wait until another process releases the lock.

    Raises:
      BlockingIOError: another process holds the lock, and `wait` is false.
      OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(folder, pathlib.Path):
        file_lock = filelock.FileLock(folder / _LOCK)
        try:
            file_lock.acquire(blocking=wait)
        except filelock.Timeout:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock") from None
        except NotImplementedError:  # Old versions of filelock, on a file system without locks.
            raise OSError(errno.ENOSYS, "the file system does not support locks") from None
        exit_stack.callback(file_lock.release)


def delete_tree(folder: Path) -> None:
    """Deletes a folder if it exists; keeps local files that cannot be deleted."""
    if isinstance(folder, pathlib.Path):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.rmtree(missing_ok=True)


def reason(error: BaseException) -> str:
    """Returns a one-line description of an error, for use in a message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = str(text).splitlines()[0]
    disk_full = os.strerror(errno.ENOSPC)
    # TensorStore's message for a full disk names each file that it was writing.
    return disk_full if disk_full in line else line


def not_writable(
    folder: Path,
    error: Exception,
    kind: str = "folder",
    remedy: str = "choose another or change its permissions",
) -> InputError:
    """Creates the error for a folder that cannot be written.

    Args:
      folder: the folder.
      error: the reason.
      kind: what the folder is, for the message.
      remedy: what the message advises, unless the disk is full.
    """
    disk_full = os.strerror(errno.ENOSPC)  # TensorStore's errors have a text but no errno.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or disk_full in str(error):
        remedy = "free some disk space and run the same command again; earlier saves are kept"
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
