"""Texts that a teacher writes for the training sources, stored in a file that people can read.

The texts of a teacher are in a folder, named after the fingerprint of everything that they depend
on: `texts.tsv` with the columns source, target and score, and `index.json` with the fingerprint.
A search that was stopped continues after its last finished part.
"""

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from akd_jax.data.readers import tsv
from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, delete_tree, lock, not_writable, replace_text

TEXTS, INDEX = "texts.tsv", "index.json"
_PARTS = "parts"
_COLUMNS = ("source", "target", "score")
_PART_ROWS = 2048


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Everything that the texts of a teacher depend on.

    Attributes:
      teacher: a digest of the teacher's variables.
      sources: a digest of the sources and, if they choose the texts, of their targets.
      target: the key of the target vocabulary.
      search: a description of the search.
    """

    teacher: str
    sources: str
    target: str
    search: str

    def digest(self) -> str:
        """Returns a short hash of all fields, for the name of the folder."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


def digest_of_texts(texts: np.ndarray) -> str:
    """Returns a digest of texts, str [N, columns]."""
    content = "\n".join("\t".join(row) for row in texts)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def load_or_write(
    folder: Path,
    name: str,
    fingerprint: Fingerprint,
    sources: Sequence[str],
    search: Callable[[np.ndarray], tuple[Sequence[str], Sequence[float]]],
) -> np.ndarray:
    """Loads the texts of a teacher for all sources; writes those that are missing.

    Args:
      folder: the folder of what the teachers of a run have computed.
      name: the name of the texts.
      fingerprint: what they depend on.
      sources: N texts.
      search: returns the texts of sources, and their scores, from the numbers of the sources. All
        processes call it.

    Returns:
      The pairs of sources and texts, str [N, 2].

    Raises:
      InputError: the folder cannot be written, or the file was changed.
      StoppedError: a stop was requested; the next call continues.
    """
    store = folder / f"{name}-{fingerprint.digest()}"
    with contextlib.ExitStack() as held:

        def lock_and_count() -> int:
            try:
                lock(store, held, wait=True)  # Another run may be writing the same texts.
                (store / _PARTS).mkdir(exist_ok=True)
            except OSError as error:
                raise not_writable(store, error) from None
            if (store / TEXTS).exists() and (store / INDEX).exists():
                return len(sources)
            return min(len(list((store / _PARTS).glob("*.tsv"))) * _PART_ROWS, len(sources))

        done = processes.on_primary(lock_and_count)
        if done < len(sources) or not processes.on_primary((store / INDEX).exists):
            started = time.monotonic()
            for start in range(done, len(sources), _PART_ROWS):
                numbers = np.arange(start, min(start + _PART_ROWS, len(sources)))
                texts, scores = search(numbers)
                part = store / _PARTS / f"{start // _PART_ROWS:06d}.tsv"
                rows = [
                    _line(source, text, score)
                    for source, text, score in zip(
                        sources[start : start + _PART_ROWS], texts, scores, strict=True
                    )
                ]
                processes.on_primary(functools.partial(_write, part, rows))
            seconds = time.monotonic() - started
            processes.on_primary(functools.partial(_join, store, fingerprint, seconds))
    pairs = read(store / TEXTS)
    if pairs[:, 0].tolist() != [_one_line(source) for source in sources]:
        raise InputError(
            f"{store / TEXTS}: expected the {len(sources):,} sources of the training split, got"
            " others; delete the folder, so that the teacher writes again"
        )
    return pairs


def read_of_teacher(path: Path, teacher: str) -> np.ndarray:
    """Reads the pairs of a file that a teacher wrote in another run, or another program.

    Args:
      path: the file.
      teacher: the digest of the teacher's variables.

    Raises:
      InputError: the file is missing or malformed, or the index beside it is that of another
        teacher.
    """
    pairs = read(path)
    index = processes.on_primary(lambda: records.read(path.parent / INDEX))
    written_by = (index or {}).get("fingerprint", {}).get("teacher", teacher)
    if written_by != teacher:
        raise InputError(
            f"{path}: expected texts of the teacher with the digest {teacher}, got those of"
            f" {written_by}; give the file of this teacher, or leave the path empty"
        )
    return pairs


def read(path: Path) -> np.ndarray:
    """Reads the sources and texts of a file, str [N, 2]; a text may be empty."""
    return tsv.texts(tsv.read(path, _COLUMNS[:2], equal_lengths=True))


def _join(store: Path, fingerprint: Fingerprint, seconds: float) -> None:
    """Writes the file of all parts and its index, and deletes the parts."""
    parts = sorted((store / _PARTS).glob("*.tsv"))
    rows = [line for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    _write(store / TEXTS, ["\t".join(_COLUMNS), *rows])
    fields: dict[str, Any] = {
        "fingerprint": dataclasses.asdict(fingerprint),
        "rows": len(rows),
        "seconds_of_last_call": round(seconds, 1),
    }
    records.write(store / INDEX, fields)
    delete_tree(store / _PARTS)


def _write(path: Path, rows: Sequence[str]) -> None:
    try:
        replace_text(path, "".join(f"{row}\n" for row in rows))
    except OSError as error:
        raise not_writable(path.parent, error) from None


def _line(source: str, text: str, score: float) -> str:
    return f"{_one_line(source)}\t{_one_line(text)}\t{score:.4f}"


def _one_line(text: str) -> str:
    """Returns a text without tabs and line ends."""
    return " ".join(text.split())
