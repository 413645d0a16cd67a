"""Stores a teacher's outputs on disk, so that the teacher runs only once on each view.

Annealing only scales the logits, so one store serves all temperatures, methods, students and
seeds. A store is a folder, named after the fingerprint of everything that its outputs depend on.
Each view of the training examples has a file per array, [N, ...] in the order of the examples'
ids. The index of the folder contains the checksum of each file.

With several processes, each one runs the teacher on its share of the examples. The primary
process reads and writes the folder, and sends the arrays to the others.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_dtypes
import numpy as np
from absl import logging

from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, lock, not_writable
from akd_jax.teachers.selection import to_arrays, to_outputs
from akd_jax.types import Outputs, Variables

_INDEX = "index.json"
_ENTRY = ("arrays", "seconds")  # The fields of a view in the index.
_DIGEST_LENGTH = 12  # Of a fingerprint, in the name of a folder.


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Everything that a teacher's stored outputs depend on.

    Attributes:
      teacher: the digest of the teacher's architecture and variables.
      data: the digest of the inputs of the examples.
      augmentation: a description of the augmentation.
      seed: the seed of the views.
      precision: a description of the precision in which the teacher computes.
      selection: a description of what is stored.
    """

    teacher: str
    data: str
    augmentation: str
    seed: int
    precision: str
    selection: str

    def digest(self) -> str:
        """Returns a short hash of all fields, for the name of the folder."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:_DIGEST_LENGTH]


@dataclasses.dataclass(frozen=True)
class StoredOutputs:
    """The stored outputs of a teacher.

    Attributes:
      views: the outputs of each view, with arrays [N, ...] that are mapped from disk.
      seconds: duration of the teacher's passes over these views, in this run or an earlier one.
    """

    views: list[Outputs]
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


def describe_precision(dtype: str) -> str:
    """Returns the precision in which a network computes, for a fingerprint.

    Args:
      dtype: the type in which it computes.
    """
    matmul = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]  # Not in stubs.
    return f"{dtype} on {jax.default_backend()}, matmul precision {matmul}"


def load_or_build(
    folder: Path,
    name: str,
    fingerprint: Fingerprint,
    views: int,
    predict: Callable[[int], Outputs],
) -> StoredOutputs:
    """Loads a teacher's stored outputs; computes and stores missing views first.

    A view is missing if a file does not exist or has the wrong checksum, for example after a
    kill. A store with a different fingerprint stays as it is, and a warning names the differences.

    Args:
      folder: the folder with the stores of one or several teachers.
      name: the name of the teacher, for the name of the store and for messages.
      fingerprint: the fingerprint of the outputs.
      views: the number of views; a store can contain more.
      predict: computes the outputs of a view, with arrays [N, ...], from its number.

    Raises:
      InputError: the folder cannot be written.
    """
    store = folder / f"{name}-{fingerprint.digest()}"
    with contextlib.ExitStack() as held:

        def lock_and_read() -> dict[str, Any]:
            if not store.exists():
                _log_differences(folder, name, fingerprint)
            try:
                lock(store, held, wait=True)  # Another run may be writing the same store.
            except OSError as error:
                raise _not_writable(store, error) from None
            return _valid_views(store, views)

        stored = processes.on_primary(lock_and_read)
        for view in range(views):
            if str(view) not in stored:
                started = time.monotonic()
                arrays = to_arrays(predict(view))  # Runs in all processes.
                seconds = time.monotonic() - started
                save = functools.partial(_save_view, store, fingerprint, view, arrays, seconds)
                stored[str(view)] = processes.on_primary(save)
    seconds = sum(stored[str(view)]["seconds"] for view in range(views))
    return StoredOutputs(
        [_load_view(store, view, stored[str(view)]) for view in range(views)], seconds
    )


def join(first: StoredOutputs, second: StoredOutputs, size: int) -> StoredOutputs:
    """Returns the outputs of the first examples, and of `size` of the second ones, in memory."""

    def concatenate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a, b[:size]])

    pairs = zip(first.views, second.views, strict=True)
    views = [jax.tree.map(concatenate, a, b) for a, b in pairs]
    return StoredOutputs(views, first.seconds + second.seconds)


def _valid_views(store: Path, views: int) -> dict[str, Any]:
    """Returns the index entries of the views whose files are complete.

    Views that are not needed, from number `views` on, are not checked.
    """
    valid = {}
    for view, entry in _read_index(store).items():
        damaged = [
            path
            for name, array in entry["arrays"].items()
            if int(view) < views
            and not (
                (path := _array_path(store, int(view), name)).exists()
                and _checksum(path) == array["sha256"]
            )
        ]
        if damaged:
            logging.warning("%s is damaged or missing; running the teacher again", damaged[0])
        else:
            valid[view] = entry
    return valid


def _save_view(
    store: Path,
    fingerprint: Fingerprint,
    view: int,
    arrays: Mapping[str, np.ndarray],
    seconds: float,
) -> dict[str, Any]:
    """Writes the files of a view, then its entry in the index; returns the entry."""
    entry: dict[str, Any] = {"arrays": {}, "seconds": seconds}
    for name, array in arrays.items():
        path = _array_path(store, view, name)
        replacement = path.with_suffix(".tmp")
        try:
            with replacement.open("wb") as file:
                np.save(file, _without_bfloat16(array))
            entry["arrays"][name] = {
                "sha256": _checksum(replacement),
                "shape": array.shape,
                "dtype": array.dtype.name,
            }
            replacement.replace(path)
        except OSError as error:
            raise _not_writable(store, error) from None
    # Update the index last, so that it lists only complete files.
    index = {"fingerprint": dataclasses.asdict(fingerprint)}
    index["views"] = {**_read_index(store), str(view): entry}
    records.write(store / _INDEX, index)
    return entry


def _load_view(store: Path, view: int, entry: dict[str, Any]) -> Outputs:
    """Loads the outputs of a view; maps local files if there is only one process."""
    arrays = {}
    for name, array in entry["arrays"].items():
        path, dtype = _array_path(store, view, name), np.dtype(array["dtype"])
        if isinstance(path, pathlib.Path) and processes.count() == 1:
            arrays[name] = np.load(path, mmap_mode="r").view(dtype)
            continue
        loaded = np.zeros(array["shape"], dtype)
        if processes.is_primary():
            loaded = np.load(io.BytesIO(path.read_bytes())).view(dtype)
        arrays[name] = processes.broadcast(loaded)
    return to_outputs(arrays)


def _without_bfloat16(array: np.ndarray) -> np.ndarray:
    """Returns bfloat16 numbers as their bits, because NumPy's files have no such type."""
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array


def _not_writable(store: Path, error: OSError) -> InputError:
    remedy = "set config.teacher.cache_dir to another folder"
    return not_writable(store, error, "folder for a teacher's outputs", remedy)


def _read_index(store: Path) -> dict[str, dict[str, Any]]:
    """Reads the entry of each view in a store's index; returns {} if the index is damaged."""
    try:
        index = records.read(store / _INDEX)
        views = {} if index is None else index["views"]
        return {view: {key: entry[key] for key in _ENTRY} for view, entry in views.items()}
    except (InputError, KeyError, TypeError, AttributeError):
        logging.warning("%s is damaged; running the teacher again", store / _INDEX)
        return {}


def _array_path(store: Path, view: int, name: str) -> Path:
    return store / f"view_{view:04d}.{name}.npy"


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _log_differences(folder: Path, name: str, fingerprint: Fingerprint) -> None:
    """Logs why the existing stores of a teacher cannot be used for a fingerprint."""
    expected = dataclasses.asdict(fingerprint)
    for path in sorted(folder.glob(f"{name}-{'?' * _DIGEST_LENGTH}/{_INDEX}")):
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
