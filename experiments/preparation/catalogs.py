"""English texts of programs and their translations by people, from gettext catalogs."""

import collections
import dataclasses
import hashlib
import pathlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

from absl import logging

from akd_jax.host.errors import require
from akd_jax.host.files import reason

FILES = "es/LC_MESSAGES/*.mo"  # Catalogs of Spanish in any of the usual folders.

_SHORTEST, _LONGEST = 4, 40  # Words of a source.
_RATIO = (0.4, 2.5)  # Words of a translation for each word of its source.
_LETTERS = 0.85  # The smallest share of letters and spaces in a source.

_WORD = re.compile(r"\w+")
# The mark before the letter that selects an item of a menu, such as in "_Save" and "Save &As".
_ACCELERATOR = re.compile(r"[&_~](?=\w)")
# Entities, placeholders, markup, other marks of accelerators, addresses, options, long numbers.
_CODE = re.compile(r"&\w+;|[%{}<>\\|=@#$~^`*\[\]_]|://|\bwww\.|--|\d{5}")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A text and its translation by a person."""

    source: str
    reference: str


def find(folders: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the paths of the Spanish catalogs in folders and their subfolders, sorted."""
    return sorted(path for folder in folders for path in folder.rglob(FILES))


def read_pairs(paths: Sequence[pathlib.Path]) -> list[Pair]:
    """Reads catalogs and returns the pairs that look like sentences, in a fixed random order.

    The sources have 4 to 40 words, and all of them have different normal forms. Of pairs with the
    same normal form, the most frequent one is used. The order is that of a hash of the normal
    form.

    Args:
      paths: the catalogs, .mo files of GNU gettext.
    """
    counts: dict[str, collections.Counter[Pair]] = collections.defaultdict(collections.Counter)
    for path in paths:
        for sources, references in read_messages(path):
            pair = Pair(clean(sources[0]), clean(references[0]))
            # Texts with a plural contain numbers.
            if len(sources) == 1 and _is_sentence(pair):
                counts[normal_form(pair.source)][pair] += 1
    pairs = {
        form: min(counter, key=lambda pair: (-counter[pair], pair.source, pair.reference))
        for form, counter in counts.items()
    }
    return [pairs[form] for form in sorted(pairs, key=_digest)]


def read_messages(path: pathlib.Path) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yields the messages of a catalog: texts of a program, without contexts, and translations.

    Most messages have one text and one translation. Those with a number have the text in singular
    and plural, and a translation for each form of the plural in the other language. A catalog that
    cannot be read is skipped with a warning.

    Args:
      path: the catalog, a .mo file of GNU gettext.

    Raises:
      InputError: Babel is not installed.
    """
    # The standard library's gettext reads catalogs, but its public interface does not list texts.
    mofile = require("babel.messages.mofile", "text")
    try:
        with path.open("rb") as file:
            catalog = mofile.read_mo(file)
    except (OSError, ValueError, struct.error) as error:
        logging.warning("%s: skipped a catalog that cannot be read: %s", path, reason(error))
        return
    for message in catalog:
        if message.id:  # The message without a text describes the catalog.
            yield _forms(message.id), _forms(message.string)


def normal_form(text: str) -> str:
    """Returns the words of a text in lower case, without digits and punctuation."""
    return " ".join("".join(x if x.isalpha() else " " for x in text.lower()).split())


def has_words(text: str) -> bool:
    """Whether a text has at least one word."""
    return _WORD.search(text) is not None


def _forms(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def clean(text: str) -> str:
    """Returns a text in one line, without the mark of its accelerator."""
    return " ".join(_ACCELERATOR.sub("", text, count=1).split())


def _is_sentence(pair: Pair) -> bool:
    for text in (pair.source, pair.reference):
        if not text.isprintable() or _CODE.search(text):
            return False
    words, others = (len(_WORD.findall(text)) for text in (pair.source, pair.reference))
    if not (_SHORTEST <= words <= _LONGEST and _RATIO[0] <= others / words <= _RATIO[1]):
        return False
    letters = sum(character.isalpha() or character.isspace() for character in pair.source)
    return letters >= _LETTERS * len(pair.source) and pair.source != pair.reference


def _digest(form: str) -> str:
    return hashlib.sha256(form.encode()).hexdigest()
