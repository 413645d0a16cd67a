"""Language identification: short texts of programs in many languages, from gettext catalogs."""

import collections
import hashlib
import pathlib
import re
from collections.abc import Iterable, Mapping

from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, replace_text
from experiments.preparation import catalogs, debian

PACKAGES = debian.Packages(
    names=(
        "evolution-common",
        "gimp-data",
        "gnome-control-center-data",
        "iso-codes",
        "libglib2.0-data",
        "libgtk-3-common",
        "nautilus-data",
    ),
    files=("LC_MESSAGES/*.mo",),
    remedy="make the data set on another machine with Debian 12, and copy its folder",
    all_required=True,
)
SPLITS = ("train", "dev", "test")
_PACKAGES = "packages"
_LEAST, _MOST = 2_500, 2_400  # Texts that a language needs, and those that are used.
_SHARES = {"test": 0.15, "dev": 0.10}
_MARKS = re.compile(r"[_~&]|<[^>]*>|%[0-9$]*[-.0-9l]*[a-zA-Z]")  # Accelerators, markup, values.
_WORDS = (2, 10)
_LETTERS = 0.7  # The smallest share of letters.
_README = """\
Short texts of programs and names of countries and languages in many languages, with the code of the
language as the label. All translations of an English text are in one split, and a text that occurs
in two languages is in none.

The texts have the licences of the programs, such as the GPL and the LGPL. Read the files copyright
below the folder packages before you pass them on.
"""


def prepare(data_dir: Path) -> None:
    """Makes train.tsv, dev.tsv and test.tsv, with the columns sentence and label.

    Raises:
      InputError: a program of Debian is missing, a package cannot be downloaded, there are no two
        languages with enough texts, or the folder cannot be written.
    """
    local = debian.require_local(data_dir)
    folders = debian.download(PACKAGES, local / _PACKAGES)
    paths = sorted(x for folder in folders.values() for x in folder.rglob("*/LC_MESSAGES/*.mo"))
    write(local, texts_of(paths), least=_LEAST, most=_MOST)


def texts_of(paths: Iterable[pathlib.Path]) -> dict[str, dict[str, str]]:
    """Returns for each language its texts, with the English text of each.

    Args:
      paths: catalogs in folders LANGUAGE/LC_MESSAGES.
    """
    texts: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for path in paths:
        for sources, translations in catalogs.read_messages(path):
            text = " ".join(_MARKS.sub("", translations[0]).split())
            letters = sum(character.isalpha() for character in text)
            if (
                len(sources) == 1  # Texts with a plural contain numbers.
                and text.isprintable()
                and translations[0] != sources[0]
                and _WORDS[0] <= len(text.split()) <= _WORDS[1]
                and letters > _LETTERS * len(text)
            ):
                texts[path.parent.parent.name].setdefault(text, sources[0])
    return texts


def write(
    folder: pathlib.Path, texts: Mapping[str, Mapping[str, str]], *, least: int, most: int
) -> None:
    """Writes the files; a hash of the English text decides on the split.

    Args:
      folder: the folder to write to.
      texts: for each language its texts, with the English text of each.
      least: the number of texts that a language needs.
      most: the largest number of texts of a language.

    Raises:
      InputError: there are no two languages with enough texts, or the folder cannot be written.
    """
    languages = sorted(code for code, of_language in texts.items() if len(of_language) >= least)
    if len(languages) < 2:
        raise InputError(
            f"{folder}: expected at least two languages with {least:,} texts, got"
            f" {', '.join(languages) or 'none'}; {PACKAGES.remedy}"
        )
    languages_of = collections.Counter(text for code in languages for text in texts[code])
    lines: dict[str, list[str]] = {split: ["sentence\tlabel\n"] for split in SPLITS}
    for code in languages:
        own = sorted((text for text in texts[code] if languages_of[text] == 1), key=_digest)
        for text in own[:most]:
            lines[_split(texts[code][text])].append(f"{text}\t{code}\n")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, of_split in lines.items():
            replace_text(folder / f"{split}.tsv", "".join(of_split))
        replace_text(folder / "README.txt", _README)
    except OSError as error:
        raise not_writable(folder, error) from None


def _split(english: str) -> str:
    share = int(_digest(english)[:8], 16) / 2**32
    for split, size in _SHARES.items():
        if share < size:
            return split
        share -= size
    return "train"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
