"""Texts that a teacher writes for the training sources, stored in a file that people can read.

The texts of a teacher are in a folder, named after the fingerprint of everything that they depend
on: `texts.tsv` has the columns source, rank, target, score and ended, and K rows for each source,
those of the K beams in the order of their rank; `index.json` has the fingerprint. A search that was
stopped continues after its last finished part.

With several processes, each one runs the teacher on its share of the sources. The primary process
reads and writes the folder, and sends the texts to the others.
"""

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from akd_jax.data.readers import tsv
from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, delete_tree, lock, not_writable, replace_text
from akd_jax.training.texts import Texts

TEXTS, INDEX = "texts.tsv", "index.json"
_PARTS = "parts"
_COLUMNS = ("source", "rank", "target", "score", "ended")
_PART_SOURCES = 2048


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Everything that the texts of a teacher depend on.

    Attributes:
      teacher: the digest of the teacher, as in its results.json.
      sources: a digest of the sources.
      vocabularies: the key of the tokenizers.
      search: a description of the search.
    """

    teacher: str
    sources: str
    vocabularies: str
    search: str

    def digest(self) -> str:
        """Returns a short hash of all fields, for the name of the folder."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


def digest_of_texts(texts: Sequence[str]) -> str:
    """Returns a digest of texts."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def load_or_write(
    folder: Path,
    name: str,
    fingerprint: Fingerprint,
    sources: Sequence[str],
    search: Callable[[np.ndarray], Sequence[Texts]],
) -> list[Texts]:
    """Loads the texts of a teacher for all sources; writes those that are missing.

    Args:
      folder: the folder of what the teachers of a run have computed.
      name: the name of the teacher.
      fingerprint: what the texts depend on.
      sources: N texts.
      search: returns the beams of sources from their numbers. All processes call it.

    Returns:
      The beams of each source, the best one first.

    Raises:
      InputError: the folder cannot be written, or the file was changed.
      StoppedError: a stop was requested; the next call continues.
    """
    store = folder / f"{name}.texts-{fingerprint.digest()}"
    with contextlib.ExitStack() as held:

        def lock_and_count() -> int:
            try:
                lock(store, held, wait=True)  # Another run may be writing the same texts.
                if (store / INDEX).exists():
                    return parts
                (store / _PARTS).mkdir(exist_ok=True)
            except OSError as error:
                raise not_writable(store, error) from None
            return len(list((store / _PARTS).glob("*.tsv")))

        parts = -(-len(sources) // _PART_SOURCES)
        for part in range(processes.on_primary(lock_and_count), parts):
            started = time.monotonic()
            start = part * _PART_SOURCES
            numbers = np.arange(start, min(start + _PART_SOURCES, len(sources)))
            beams = search(numbers)
            rows = [
                line
                for number, texts in zip(numbers.tolist(), beams, strict=True)
                for line in _lines(sources[number], texts)
            ]
            seconds = time.monotonic() - started
            processes.on_primary(functools.partial(_write_part, store, part, rows, seconds))
            logging.info(
                "%s has written the texts of %d of %d sources", name, numbers[-1] + 1, len(sources)
            )
        return _decode(processes.on_primary(lambda: _read(store, fingerprint, sources)))


def read_best(path: Path, teacher: str) -> dict[str, tuple[str, bool]]:
    """Reads the best text of each source from a file of another run, or of another program.

    Args:
      path: a file with the columns source and target, and possibly rank and ended.
      teacher: the digest of the teacher, which that in an index.json beside the file must equal.

    Returns:
      The text of each source, and whether it has ended.

    Raises:
      InputError: the file is missing or malformed, or the texts are those of another teacher.
    """
    index = records.read(path.parent / INDEX) or {}
    fingerprint = index.get("fingerprint")
    written_by = fingerprint.get("teacher") if isinstance(fingerprint, dict) else teacher
    if teacher and written_by != teacher:
        raise InputError(
            f"{path}: expected texts of the teacher with the digest {teacher}, got those of"
            f" {written_by}; give the file of this teacher, or leave the path empty"
        )
    pairs = tsv.read(path, ("source", "target")).rows
    header = path.read_text(encoding="utf-8").partition("\n")[0].split("\t")
    ranks = tsv.read(path, ("rank",)).rows if "rank" in header else {}
    ended = tsv.read(path, ("ended",)).rows if "ended" in header else {}
    return {
        source: (target, ended.get(line, ["1"])[0] == "1")
        for line, (source, target) in pairs.items()
        if ranks.get(line, ["0"])[0] == "0"
    }


def one_line(text: str) -> str:
    """Returns a text without tabs and line ends, as it is in a file."""
    return " ".join(text.split())


def _read(
    store: Path, fingerprint: Fingerprint, sources: Sequence[str]
) -> list[list[tuple[str, str, str]]]:
    """Reads target, score and end of each beam; joins the parts first, if they are not joined."""
    if not (store / INDEX).exists():
        _join(store, fingerprint)
    path = store / TEXTS
    checksum = records.read(store / INDEX) or {}
    content = path.read_bytes() if path.exists() else b""
    rows = list(tsv.read(path, _COLUMNS, equal_lengths=True).rows.values()) if content else []
    beams = len(rows) // len(sources)
    expected = [one_line(source) for source in sources for _ in range(beams)]
    if (
        hashlib.sha256(content).hexdigest() != checksum.get("sha256")
        or [row[0] for row in rows] != expected
    ):
        raise InputError(
            f"{path}: expected the texts that {INDEX} describes, got others; delete the folder, so"
            " that the teacher writes again"
        )
    cells = [(target, score, ended) for _, _, target, score, ended in rows]
    return [cells[start : start + beams] for start in range(0, len(cells), beams)]


def _decode(cells: Sequence[Sequence[Sequence[str]]]) -> list[Texts]:
    """Returns the beams of each source from the cells of a file."""
    return [
        Texts(
            [target for target, _, _ in beams],
            np.array([float(score) for _, score, _ in beams]),
            np.array([ended == "0" for _, _, ended in beams]),
        )
        for beams in cells
    ]


def _join(store: Path, fingerprint: Fingerprint) -> None:
    """Writes the file of all parts and its index, and deletes the parts."""
    parts = sorted((store / _PARTS).glob("*.tsv"))
    text = "\t".join(_COLUMNS) + "\n" + "".join(x.read_text(encoding="utf-8") for x in parts)
    _write(store / TEXTS, text)
    seconds = [records.read(part.with_suffix(".json")) or {} for part in parts]
    fields: Mapping[str, Any] = {
        "fingerprint": dataclasses.asdict(fingerprint),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "seconds": round(sum(part.get("seconds", 0.0) for part in seconds), 1),
    }
    records.write(store / INDEX, fields)
    delete_tree(store / _PARTS)


def _write_part(store: Path, part: int, rows: Sequence[str], seconds: float) -> None:
    path = store / _PARTS / f"{part:06d}.tsv"
    records.write(path.with_suffix(".json"), {"seconds": seconds})
    _write(path, "".join(f"{row}\n" for row in rows))


def _write(path: Path, text: str) -> None:
    try:
        replace_text(path, text)
    except OSError as error:
        raise not_writable(path.parent, error) from None


def _lines(source: str, texts: Texts) -> list[str]:
    """Returns the rows of a source."""
    beams = zip(texts.texts, texts.scores, texts.without_end, strict=True)
    return [
        f"{one_line(source)}\t{rank}\t{one_line(text)}\t{score:.4f}\t{int(not cut)}"
        for rank, (text, score, cut) in enumerate(beams)
    ]
