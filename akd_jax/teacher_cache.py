"""A teacher's logits on disk: run once over the views of the training split, read ever after.

Annealing only scales the logits, so one cache serves every temperature, and every method,
student and seed that the teacher teaches. A cache is a folder, named after the fingerprint of
all that its numbers depend on; each view of the split is a file of its own, float32 [N, C],
in the order of the examples' ids, with its checksum in the folder's index.
"""

import dataclasses
import fcntl
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from akd_jax import records
from akd_jax.errors import InputError
from akd_jax.types import Variables

_INDEX = "index.json"
_LOCK = ".lock"
_ENTRY = ("sha256", "seconds")  # What the index holds of a view.


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """All that a teacher's stored logits depend on.

    Attributes:
      teacher: digest of its architecture and variables.
      data: digest of the training split's inputs.
      augmentation: how views are drawn.
      seed: of the views.
      precision: what the teacher computes in.
    """

    teacher: str
    data: str
    augmentation: str
    seed: int
    precision: str

    def digest(self) -> str:
        """A short name for it."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class TeacherLogits:
    """The logits of a teacher for each view, and what they cost.

    Attributes:
      views: an array [N, C] for each view, mapped from disk.
      seconds: of the teacher's passes over these views, whenever they were made.
    """

    views: list[np.ndarray]
    seconds: float


def digest(*arrays: Any, name: str = "") -> str:
    """A digest of a name and the arrays of trees, with their types and shapes."""
    state = hashlib.sha256(name.encode())
    for path, leaf in jax.tree.leaves_with_path(arrays):
        array = np.ascontiguousarray(leaf)
        state.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        state.update(array.data)
    return state.hexdigest()[:16]


def teacher_digest(module: nn.Module, variables: Variables) -> str:
    """The digest of a teacher: its architecture, with all of its settings, and its variables."""
    return digest(variables, name=repr(module))


def load_or_build(
    folder: Path,
    name: str,
    fingerprint: Fingerprint,
    views: int,
    predict: Callable[[int], np.ndarray],
) -> TeacherLogits:
    """Reads a cache, after making whatever of it is missing.

    Views that are there with the right checksum are read; the others, after a kill or
    damage, are made anew. A cache of another fingerprint is left alone, and the log says in
    which parts it differs.

    Args:
      folder: holds caches, of one or several teachers.
      name: of the teacher, for its cache's name and the log.
      fingerprint: of the logits that are wanted.
      views: how many views; a cache can hold more.
      predict: runs the teacher over a view: its number to logits float32 [N, C].

    Raises:
      InputError: the folder cannot be written.
    """
    cache = folder / f"{name}-{fingerprint.digest()}"
    if not cache.exists():
        _say_what_differs(folder, name, fingerprint)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Another run may be making the same one.
            seconds = _build(cache, fingerprint, views, predict)
    except OSError as error:
        raise InputError(
            f"{cache}: expected a folder for a teacher's logits that can be written, got:"
            f" {error.strerror}; set config.teacher.cache_dir to another"
        ) from None
    arrays = [np.load(_view_path(cache, view), mmap_mode="r") for view in range(views)]
    return TeacherLogits(arrays, seconds)


def _build(
    cache: Path, fingerprint: Fingerprint, views: int, predict: Callable[[int], np.ndarray]
) -> float:
    """Makes the views that are missing or damaged; the seconds that all of them took."""
    stored = _read_index(cache)
    for view in range(views):
        path = _view_path(cache, view)
        entry = stored.get(str(view))
        if entry is not None and path.exists() and _checksum(path) == entry["sha256"]:
            continue
        if entry is not None:
            logging.warning("%s is damaged or missing; the teacher is run again", path)
        started = time.monotonic()
        logits = predict(view)
        seconds = time.monotonic() - started
        replacement = path.with_suffix(".tmp")
        with replacement.open("wb") as file:
            np.save(file, logits)
        entry = {"sha256": _checksum(replacement), "seconds": seconds}
        replacement.replace(path)
        # Only now: a view is in the index when the whole of it is on disk.
        stored[str(view)] = entry
        index = {"fingerprint": dataclasses.asdict(fingerprint), "views": stored}
        records.write(cache / _INDEX, index)
    return sum(stored[str(view)]["seconds"] for view in range(views))


def _read_index(cache: Path) -> dict[str, dict[str, Any]]:
    """The checksum and seconds of each view in a cache; none of them where it is damaged."""
    try:
        found = records.read(cache / _INDEX)
        views = {} if found is None else found["views"]
        return {view: {key: entry[key] for key in _ENTRY} for view, entry in views.items()}
    except (InputError, KeyError, TypeError, AttributeError):
        logging.warning("%s is damaged; the teacher is run again", cache / _INDEX)
        return {}


def _view_path(cache: Path, view: int) -> Path:
    return cache / f"view_{view:04d}.npy"


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say_what_differs(folder: Path, name: str, fingerprint: Fingerprint) -> None:
    wanted = dataclasses.asdict(fingerprint)
    for path in sorted(folder.glob(f"{name}-*/{_INDEX}")):
        try:
            found = (records.read(path) or {})["fingerprint"]
        except (InputError, KeyError):
            continue  # A damaged one, of whatever it was.
        differing = [part for part, value in wanted.items() if found.get(part) != value]
        logging.warning(
            "%s is not used: another %s; the teacher is run anew",
            path.parent,
            ", ".join(differing),
        )
