"""A corpus for translation: German and English texts of LibreOffice's help and interface.

A paragraph of a help page has the same id in all languages. The texts of the interface are in
catalogs of gettext, with their English originals. Debian has both in packages of 6 MB.
"""

import hashlib
import html
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from absl import logging

from akd_jax.data.readers import parallel
from akd_jax.host import interrupts
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, reason, replace_text
from experiments.preparation import catalogs, debian, translation_pairs
from experiments.preparation.translation_pairs import Pair

# The version of the packages in Debian 12, and the SHA-256 of the files that it gives.
VERSION = "4:7.4.7-1+deb12u14"
CHECKSUMS = {
    "train.tsv": "e041dc97ea8643f0293aa25fac47b8fbd3161067d7d34f01f6ac0e0ddb496ab0",
    "dev.tsv": "cacdfc687f191e9d234bb62e54a9fbb592d888152c982b3f62dfefe9fc604082",
    "test.tsv": "33bedc02924cf44b1b7c63426579714150b7d3d693f4ae3ac1ebfd843b254320",
}
_GERMAN, _ENGLISH, _INTERFACE = (
    "libreoffice-help-de",
    "libreoffice-help-en-us",
    "libreoffice-l10n-de",
)
PACKAGES = debian.Packages(
    names=(_GERMAN, _ENGLISH, _INTERFACE),
    files=("help/*/text/**/*.html", "de/LC_MESSAGES/*.mo"),
    remedy="make the data set on another machine with Debian 12, and copy train.tsv, dev.tsv and"
    " test.tsv",
    all_required=True,
)
_PACKAGES = "packages"
_LABEL = "texts of LibreOffice"
_COLUMNS = ("source", "target")
_README = """\
German texts of LibreOffice (source) and their English versions (target), from its help pages and
its interface. No two sources differ only in case, the values of numbers and punctuation. No source
or target of dev.tsv or test.tsv is in train.tsv.

LibreOffice has the Mozilla Public License 2.0, and parts have the Apache License 2.0. Read the
files copyright below the folder packages before you pass the texts on.

Debian packages:
"""

# The help pages are generated, so that a regular expression finds their paragraphs.
_PARAGRAPH = re.compile(
    r'<(p|h[1-6]|td|li|div)\b[^>]*\bid="((?:par|hd|tit)_id\w+)"[^>]*>(.*?)</\1>', re.DOTALL
)
_SCRIPT = re.compile(r"<(script|style)[^>]*>.*?</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_INVISIBLE = re.compile("[\u00ad\u200b]")  # The soft hyphen, and the space of width zero.
# The mark before the letter that selects an item of a menu.
_ACCELERATOR = re.compile(r"[_~](?=\w)")


def prepare(data_dir: Path) -> None:
    """Makes train.tsv, dev.tsv and test.tsv.

    If all three files exist, they are only checked. The packages are in the folder `packages`; a
    preparation that was stopped does not download them again. A warning is logged if the files are
    not those of the version `VERSION` of the packages.

    Args:
      data_dir: the folder to write to.

    Raises:
      InputError: a program of Debian or a Python package is missing, the packages cannot be
        downloaded or have too few texts, the folder cannot be written, or an existing file is
        malformed.
      StoppedError: a stop was requested.
    """
    data_dir = debian.require_local(data_dir)
    if not all((data_dir / name).exists() for name in CHECKSUMS):
        folders = debian.download(PACKAGES, data_dir / _PACKAGES)
        splits = translation_pairs.split(_pairs(folders))
        _check_sizes(splits, data_dir / _PACKAGES)
        try:
            replace_text(data_dir / "README.txt", _README + _versions(folders))
            for name, pairs in splits.items():
                replace_text(data_dir / f"{name}.tsv", _table(pairs))
        except OSError as error:
            raise not_writable(data_dir, error) from None
    else:
        parallel.load_splits(data_dir, _COLUMNS)
    _warn_of_other_versions(data_dir)


def _pairs(folders: Mapping[str, pathlib.Path]) -> Iterator[tuple[Pair, bool]]:
    """Yields the pairs of the packages, and whether each one is from a help page."""
    german, english = (_help_texts(folders[name]) for name in (_GERMAN, _ENGLISH))
    for key in sorted(german.keys() & english.keys()):
        for pair in translation_pairs.sentences(Pair(german[key], english[key])):
            yield pair, True
    for pair in _interface_pairs(folders[_INTERFACE]):
        for sentence in translation_pairs.sentences(pair):
            yield sentence, False


def _help_texts(folder: pathlib.Path) -> dict[tuple[str, str], str]:
    """Returns the texts of all paragraphs of help pages, by page and id."""
    texts = {}
    for page in sorted(folder.rglob("*.html")):
        interrupts.raise_if_stop_requested(_LABEL)
        try:
            content = page.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{page}: expected a help page in UTF-8, got: {reason(error)}; delete the folder"
                f" {folder}, so that it is downloaded again"
            ) from None
        # The part of the path that is the same in all languages.
        name = page.relative_to(folder).as_posix().partition("/text/")[2]
        for match in _PARAGRAPH.finditer(content):
            texts[name, match[2]] = _clean(match[3])
    return texts


def _interface_pairs(folder: pathlib.Path) -> list[Pair]:
    """Returns the texts of catalogs, each once, in a fixed order."""
    pairs = set()
    for path in folder.rglob("*.mo"):
        for originals, translations in catalogs.read_messages(path):
            english = _ACCELERATOR.sub("", _clean(originals[0]))
            # Each form of a plural is a translation of the singular here.
            for translation in translations:
                pairs.add(Pair(_ACCELERATOR.sub("", _clean(translation)), english))
    return sorted(pairs)


def _clean(text: str) -> str:
    """Returns a text in one line, without markup and invisible characters."""
    text = html.unescape(_TAG.sub("", _SCRIPT.sub("", text)))
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.replace("%PRODUCTNAME", "LibreOffice").split())


def _table(pairs: Sequence[Pair]) -> str:
    rows = [_COLUMNS, *((pair.german, pair.english) for pair in pairs)]
    return "".join("\t".join(row) + "\n" for row in rows)


def _versions(folders: Mapping[str, pathlib.Path]) -> str:
    return "".join(f"{name} {debian.version(path)}\n" for name, path in folders.items())


def _check_sizes(splits: Mapping[str, Sequence[Pair]], folder: pathlib.Path) -> None:
    if not all(splits.values()):
        sizes = ", ".join(f"{len(pairs)} {name}" for name, pairs in splits.items())
        raise InputError(
            f"{folder}: expected packages with German texts and their English versions, got"
            f" {sizes} pairs; delete the folder, and use the packages {VERSION} of Debian 12"
        )


def _warn_of_other_versions(data_dir: pathlib.Path) -> None:
    """Logs a warning if the files are not those of the expected version of the packages."""
    got = {name: hashlib.sha256((data_dir / name).read_bytes()).hexdigest() for name in CHECKSUMS}
    if got != CHECKSUMS:
        expected, found = (
            ", ".join(f"{name} {checksum[:16]}" for name, checksum in checksums.items())
            for checksums in (CHECKSUMS, got)
        )
        logging.warning(
            "%s: expected the files of LibreOffice %s with the SHA-256 %s, got %s; scores on them"
            " cannot be compared with scores on the expected files",
            data_dir,
            VERSION,
            expected,
            found,
        )
