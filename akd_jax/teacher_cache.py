"""A teacher's logits on disk: run once over the views of the training split, read ever after.

Annealing only scales the logits, so one cache serves every temperature, and every method,
student and seed that the teacher teaches. A cache is a folder, named after the fingerprint of
all that its numbers depend on; each view of the split is a file of its own, float32 [N, C],
in the order of the examples' ids, with its checksum in the folder's index.

Of several processes each runs the teacher over its share of the examples; the primary one
keeps the folder, and sends what is in it to the others.
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

from akd_jax import processes, records
from akd_jax.errors import InputError
from akd_jax.files import Path, lock, not_writable
from akd_jax.types import Variables

_INDEX = "index.json"
_ENTRY = ("sha256", "seconds", "shape")  # What the index holds of a view.


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
    with contextlib.ExitStack() as held:

        def look() -> dict[str, Any]:
            if not cache.exists():
                _say_what_differs(folder, name, fingerprint)
            try:
                lock(cache, held, wait=True)  # Another run may be making the same one.
            except OSError as error:
                raise _no_cache(cache, error) from None
            return _whole_views(cache, views)

        stored = processes.on_primary(look)
        for view in range(views):
            if str(view) not in stored:
                started = time.monotonic()
                logits = predict(view)  # In all processes.
                seconds = time.monotonic() - started
                save = functools.partial(_save, cache, fingerprint, view, logits, seconds)
                stored[str(view)] = processes.on_primary(save)
    seconds = sum(stored[str(view)]["seconds"] for view in range(views))
    return TeacherLogits([_load(cache, view, stored[str(view)]) for view in range(views)], seconds)


def _whole_views(cache: Path, views: int) -> dict[str, Any]:
    """The entries of the views in a cache that are not missing or damaged."""
    found = {}
    for view, entry in _read_index(cache).items():
        path = _view_path(cache, int(view))
        if int(view) >= views or (path.exists() and _checksum(path) == entry["sha256"]):
            found[view] = entry
        else:
            logging.warning("%s is damaged or missing; the teacher is run again", path)
    return found


def _save(
    cache: Path, fingerprint: Fingerprint, view: int, logits: np.ndarray, seconds: float
) -> dict[str, Any]:
    """Writes a view, and its entry into the index; returns the entry."""
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
        raise _no_cache(cache, error) from None
    # Only now: a view is in the index when the whole of it is on disk.
    index = {"fingerprint": dataclasses.asdict(fingerprint)}
    index["views"] = {**_read_index(cache), str(view): entry}
    records.write(cache / _INDEX, index)
    return entry


def _load(cache: Path, view: int, entry: dict[str, Any]) -> np.ndarray:
    """A view's logits; mapped from disk where there is but one process, at the disk."""
    path = _view_path(cache, view)
    if isinstance(path, pathlib.Path) and processes.count() == 1:
        return np.load(path, mmap_mode="r")
    logits = np.zeros(entry["shape"], np.float32)
    if processes.is_primary():
        logits = np.load(io.BytesIO(path.read_bytes()))
    return processes.broadcast(logits)


def _no_cache(cache: Path, error: OSError) -> InputError:
    remedy = "set config.teacher.cache_dir to another"
    return not_writable(cache, error, "folder for a teacher's logits", remedy)


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
