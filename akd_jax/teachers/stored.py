"""Stores a teacher's logits on disk, so that the teacher runs only once on each view.

Annealing only scales the logits, so one cache serves all temperatures, methods, students and
seeds. A cache is a folder, named after the fingerprint of everything that its logits depend on.
Each view of the training split is a file, float32 [N, C] in the order of the examples' ids. The
index of the folder contains the checksum of each file.

With several processes, each one runs the teacher on its share of the examples. The primary
process reads and writes the folder, and sends the logits to the others.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import pathlib
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, lock, not_writable
from akd_jax.types import Variables

_INDEX = "index.json"
_ENTRY = ("sha256", "seconds", "shape")  # The fields of a view in the index.


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Everything that a teacher's stored logits depend on.

    Attributes:
      teacher: the digest of the teacher's architecture and variables.
      data: the digest of the training split's inputs.
      augmentation: a description of the augmentation.
      seed: the seed of the views.
      precision: a description of the precision in which the teacher computes.
    """

    teacher: str
    data: str
    augmentation: str
    seed: int
    precision: str

    def digest(self) -> str:
        """Returns a short hash of all fields, for the name of the folder."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class TeacherLogits:
    """The stored logits of a teacher.

    Attributes:
      views: an array [N, C] for each view, mapped from disk.
      seconds: duration of the teacher's passes over these views, in this run or an earlier one.
    """

    views: list[np.ndarray]
    seconds: float


def digest(*arrays: Any, name: str = "") -> str:
    """Returns a digest of a name and of trees of arrays, with their paths, types and shapes."""
    sha256 = hashlib.sha256(name.encode())
    for path, leaf in jax.tree.leaves_with_path(arrays):
        array = np.ascontiguousarray(leaf)
        sha256.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        sha256.update(array.data)
    return sha256.hexdigest()[:16]


def teacher_digest(module: nn.Module, variables: Variables) -> str:
    """Returns the digest of a teacher: its architecture with all settings, and its variables."""
    return digest(variables, name=repr(module))


def load_or_build(
    folder: Path,
    name: str,
    fingerprint: Fingerprint,
    views: int,
    predict: Callable[[int], np.ndarray],
) -> TeacherLogits:
    """Loads a teacher's stored logits; computes and stores missing views first.

    A view is missing if its file does not exist or has the wrong checksum, for example after a
    kill. A cache with a different fingerprint stays as it is, and a warning names the differences.

    Args:
      folder: the folder with the caches of one or several teachers.
      name: the name of the teacher, for the name of the cache and for messages.
      fingerprint: the fingerprint of the logits.
      views: the number of views; a cache can contain more.
      predict: computes the logits of a view, float32 [N, C], from its number.

    Raises:
      InputError: the folder cannot be written.
    """
    cache = folder / f"{name}-{fingerprint.digest()}"
    with contextlib.ExitStack() as held:

        def lock_and_read() -> dict[str, Any]:
            if not cache.exists():
                _log_differences(folder, name, fingerprint)
            try:
                lock(cache, held, wait=True)  # Another run may be writing the same cache.
            except OSError as error:
                raise _not_writable(cache, error) from None
            return _valid_views(cache, views)

        stored = processes.on_primary(lock_and_read)
        for view in range(views):
            if str(view) not in stored:
                started = time.monotonic()
                logits = predict(view)  # Runs in all processes.
                seconds = time.monotonic() - started
                save = functools.partial(_save_view, cache, fingerprint, view, logits, seconds)
                stored[str(view)] = processes.on_primary(save)
    seconds = sum(stored[str(view)]["seconds"] for view in range(views))
    arrays = [_load_view(cache, view, stored[str(view)]) for view in range(views)]
    return TeacherLogits(arrays, seconds)


def _valid_views(cache: Path, views: int) -> dict[str, Any]:
    """Returns the index entries of the views whose files are complete.

    Views that are not needed, from number `views` on, are not checked.
    """
    valid = {}
    for view, entry in _read_index(cache).items():
        path = _view_path(cache, int(view))
        if int(view) >= views or (path.exists() and _checksum(path) == entry["sha256"]):
            valid[view] = entry
        else:
            logging.warning("%s is damaged or missing; running the teacher again", path)
    return valid


def _save_view(
    cache: Path, fingerprint: Fingerprint, view: int, logits: np.ndarray, seconds: float
) -> dict[str, Any]:
    """Writes the file of a view, then its entry in the index; returns the entry."""
    path = _view_path(cache, view)
    replacement = path.with_suffix(".tmp")
    try:
        with replacement.open("wb") as file:
            np.save(file, logits)
        entry = {
            "sha256": _checksum(replacement),
            "seconds": seconds,
            "shape": logits.shape,
        }
        replacement.replace(path)
    except OSError as error:
        raise _not_writable(cache, error) from None
    # Update the index last, so that it lists only complete files.
    index = {"fingerprint": dataclasses.asdict(fingerprint)}
    index["views"] = {**_read_index(cache), str(view): entry}
    records.write(cache / _INDEX, index)
    return entry


def _load_view(cache: Path, view: int, entry: dict[str, Any]) -> np.ndarray:
    """Loads the logits of a view; maps a local file if there is only one process."""
    path = _view_path(cache, view)
    if isinstance(path, pathlib.Path) and processes.count() == 1:
        return np.load(path, mmap_mode="r")
    logits = np.zeros(entry["shape"], np.float32)
    if processes.is_primary():
        logits = np.load(io.BytesIO(path.read_bytes()))
    return processes.broadcast(logits)


def _not_writable(cache: Path, error: OSError) -> InputError:
    remedy = "set config.teacher.cache_dir to another folder"
    return not_writable(cache, error, "folder for a teacher's logits", remedy)


def _read_index(cache: Path) -> dict[str, dict[str, Any]]:
    """Reads the entry of each view in a cache's index; returns {} if the index is damaged."""
    try:
        index = records.read(cache / _INDEX)
        views = {} if index is None else index["views"]
        return {view: {key: entry[key] for key in _ENTRY} for view, entry in views.items()}
    except (InputError, KeyError, TypeError, AttributeError):
        logging.warning("%s is damaged; running the teacher again", cache / _INDEX)
        return {}


def _view_path(cache: Path, view: int) -> Path:
    return cache / f"view_{view:04d}.npy"


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _log_differences(folder: Path, name: str, fingerprint: Fingerprint) -> None:
    """Logs why the existing caches of a teacher cannot be used for a fingerprint."""
    expected = dataclasses.asdict(fingerprint)
    for path in sorted(folder.glob(f"{name}-*/{_INDEX}")):
        try:
            actual = (records.read(path) or {})["fingerprint"]
        except (InputError, KeyError):
            continue  # The index is damaged, so its fingerprint is unknown.
        differing = [part for part, value in expected.items() if actual.get(part) != value]
        logging.warning(
            "%s is not used, because it has a different %s; running the teacher again",
            path.parent,
            ", ".join(differing),
        )
