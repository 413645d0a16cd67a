"""Recordings of spoken commands to codes: a codebook of log-mel features, and codes.tsv."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from akd_jax.data.readers import speech as reader
from akd_jax.data.readers import tsv
from akd_jax.data.speech import codebook, recordings
from akd_jax.data.speech.codebook import Codebook
from akd_jax.data.speech.features import FeatureSettings, code_features
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, replace_text
from experiments.preparation import parallel

_FITTED = ("train", "pretrain")  # The splits whose recordings the codebook is fitted to.
_FITTED_RECORDINGS = 2_000
_FITTED_FEATURES = 60_000
_PART = 1_000  # Recordings after which the codes are written.


@dataclasses.dataclass(frozen=True)
class Options:
    """What the codes are.

    Attributes:
      codes: K, the number of codes of a new codebook.
      hops_per_code: number of hops of 10 ms that one code stands for.
    """

    codes: int = 256
    hops_per_code: int = 3


def prepare(data_dir: Path, options: Options) -> None:
    """Writes the codes of all recordings of a data set that codes.tsv does not have yet.

    An existing codebook.npz is used; otherwise a codebook is fitted to a random sample of the
    training recordings and of those without intents. Codes are written every 1,000 recordings, and
    a preparation that was stopped continues from there.

    Args:
      data_dir: the folder of the data set, in the layout of `akd_jax.data.readers.speech`.
      options: what the codes are.

    Raises:
      InputError: a file is missing or not valid; the message names the line of the CSV file. Or
        the existing codebook was made with other options.
    """
    tables = reader.read_tables(data_dir)
    places: dict[str, str] = {}  # The first line that names each recording.
    for table in tables.values():
        for number, (recording, *_) in table.rows.items():
            places.setdefault(recording, f"{table.path}, line {number}")
    settings = FeatureSettings(hops_per_code=options.hops_per_code)
    codes = _existing_codes(data_dir)
    book = _existing_codebook(data_dir, options, settings)
    missing = [recording for recording in places if recording not in codes]
    if not missing:
        return
    for recording in missing:
        if not (data_dir / recording).exists():
            raise InputError(
                f"{places[recording]}: expected the recording {data_dir / recording}, got no file;"
                " add it, or remove the line"
            )
    source = _Features(data_dir, places, settings)
    if book is None:
        if codes:
            raise InputError(
                f"{data_dir / reader.CODEBOOK}: expected the codebook that made {reader.CODES}, got"
                f" no file; restore it, add the {len(missing):,} missing recordings to"
                f" {reader.CODES}, or delete {reader.CODES}"
            )
        book = _fit(tables, source, options, settings)
        book.save(data_dir / reader.CODEBOOK)
    order = [*places, *(recording for recording in codes if recording not in places)]
    for start in range(0, len(missing), _PART):
        part = missing[start : start + _PART]
        label = f"codes of {len(missing):,} recordings, {start:,} done"
        for recording, features in zip(part, source.of(part, label), strict=True):
            codes[recording] = " ".join(map(str, book.encode(features)))
        _write_codes(data_dir, {name: codes[name] for name in order if name in codes})


def describe(data_dir: Path) -> str:
    """Describes the splits, the codes in use, and the lengths of the recordings."""
    source = reader.load(data_dir)
    recordings = [words.split() for words in _existing_codes(data_dir).values()]
    lengths = [len(words) for words in recordings]
    used = len({word for words in recordings for word in words})
    return (
        f"{len(source.train):,} training and {len(source.test):,} test examples; {used:,} codes in"
        f" use, {np.mean(lengths):.1f} codes per recording and at most"
        f" {max(lengths):,}"
    )


class _Features:
    """Computes the features of recordings; says once if recordings have another sample rate.

    Args:
      data_dir: the folder of the data set.
      places: maps the path of a recording to the line that has it, for messages.
      settings: the settings of the features.
    """

    def __init__(self, data_dir: Path, places: Mapping[str, str], settings: FeatureSettings):
        self._data_dir, self._places, self._settings = data_dir, places, settings
        self._said = False

    def of(self, paths: Sequence[str], label: str) -> list[np.ndarray]:
        """Returns the features of each recording, float32 [T, D]."""
        features = []
        for path, (values, rate) in zip(paths, parallel.run(self._read, paths, label), strict=True):
            features.append(values)
            if rate != self._settings.sample_rate and not self._said:
                self._said = True
                logging.warning(
                    "%s has a sample rate of %d Hz; recordings of other rates are resampled to %d"
                    " Hz",
                    self._data_dir / path,
                    rate,
                    self._settings.sample_rate,
                )
        return features

    def _read(self, path: str) -> tuple[np.ndarray, int]:
        try:
            recording = recordings.read(self._data_dir / path, self._settings.sample_rate)
        except InputError as error:
            raise InputError(f"{self._places[path]}: {error}") from None
        return code_features(recording.samples, self._settings), recording.original_rate


def _fit(
    tables: Mapping[str, tsv.Table], source: _Features, options: Options, settings: FeatureSettings
) -> Codebook:
    """Fits a codebook to a random sample, which is the same each time."""
    paths = [row[0] for name in _FITTED if name in tables for row in tables[name].rows.values()]
    random = np.random.RandomState(0)
    sample = [paths[index] for index in random.permutation(len(paths))[:_FITTED_RECORDINGS]]
    features = np.concatenate(source.of(sample, "recordings for the codebook"))
    chosen = random.permutation(len(features))[:_FITTED_FEATURES]
    return Codebook.fit(features[chosen], options.codes, settings)


def _existing_codes(data_dir: Path) -> dict[str, str]:
    path = data_dir / reader.CODES
    if not path.exists():
        return {}
    return {row[0]: row[1] for row in tsv.read(path, reader.CODES_COLUMNS).rows.values()}


def _existing_codebook(
    data_dir: Path, options: Options, settings: FeatureSettings
) -> Codebook | None:
    path = data_dir / reader.CODEBOOK
    if not path.exists():
        return None
    book = codebook.load(path)
    codebook.check_settings(book, settings, path)
    if len(book) != options.codes:
        raise InputError(
            f"{path}: expected a codebook of {options.codes} codes, got {len(book)}; give"
            f" --codes={len(book)}, or delete the file and {reader.CODES} to make new codes"
        )
    return book


def _write_codes(data_dir: Path, codes: Mapping[str, str]) -> None:
    lines = [
        "\t".join(reader.CODES_COLUMNS),
        *(f"{path}\t{words}" for path, words in codes.items()),
    ]
    try:
        replace_text(data_dir / reader.CODES, "\n".join(lines) + "\n")
    except OSError as error:
        raise not_writable(data_dir, error) from None
