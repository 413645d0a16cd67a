"""German texts and their English versions: sentences of paragraphs, filters and splits."""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable

_HELD_OUT = 0.05  # Share of the sources of help pages in test.tsv, and in dev.tsv.
_SHORTEST, _LONGEST = 3, 30  # Words of a text.
_LONGEST_WORD = 40  # Characters.
_LETTERS = 0.7  # The smallest share of letters among the characters of a text, without spaces.

# The space between two sentences.
_BOUNDARY = re.compile(r'(?<=[a-zäöüß0-9)»"”][.!?])\s+(?=[A-ZÄÖÜ„“"(])')
_LETTER = re.compile(r"[^\W\d_]")
# Formulas, programs, placeholders, addresses and paths.
_CODE = re.compile(r"[=<>{}\[\]\\|~^_$@]|;\s*[;…]|\w\.\w+\(|%\w|https?:|\w/\w+/\w")


@dataclasses.dataclass(frozen=True, order=True)
class Pair:
    """A German text and its English version."""

    german: str
    english: str


def sentences(pair: Pair) -> list[Pair]:
    """Returns the pairs of sentences of a paragraph.

    The paragraph stays whole if its texts have different numbers of sentences, or a sentence is
    much longer than its translation.
    """
    german, english = _BOUNDARY.split(pair.german), _BOUNDARY.split(pair.english)
    if len(german) != len(english):
        return [pair]
    pairs = [Pair(*texts) for texts in zip(german, english, strict=True)]
    return pairs if all(map(_is_balanced, pairs)) else [pair]


def split(pairs: Iterable[tuple[Pair, bool]]) -> dict[str, list[Pair]]:
    """Returns the splits test, dev and train, each in a fixed random order.

    Pairs that are too short, too long or not in a natural language are left out. Of pairs whose
    sources differ only in case, the values of numbers, punctuation and spaces, the most frequent
    one is used. A hash of the source decides on the split. About 5 % of the sources are in test
    and 5 % in dev, but none that also occurs elsewhere than in help pages. A pair whose target is
    also in an earlier split is left out.

    Args:
      pairs: the pairs, each with whether it is from a help page.
    """
    counts: dict[str, collections.Counter[Pair]] = collections.defaultdict(collections.Counter)
    in_interface = set()
    for pair, is_help in pairs:
        if _is_wanted(pair):
            form = _normal_form(pair.german)
            counts[form][pair] += 1
            if not is_help:
                in_interface.add(form)
    splits: dict[str, list[Pair]] = {"test": [], "dev": [], "train": []}
    for form, counter in counts.items():
        share = 1.0 if form in in_interface else int(_digest(form)[:12], 16) / 2**48
        name = "test" if share < _HELD_OUT else "dev" if share < 2 * _HELD_OUT else "train"
        splits[name].append(min(counter, key=lambda pair: (-counter[pair], pair)))
    seen: set[str] = set()  # The targets of earlier splits.
    for name, part in splits.items():
        forms = [_normal_form(pair.english) for pair in part]
        splits[name] = [pair for pair, form in zip(part, forms, strict=True) if form not in seen]
        splits[name].sort(key=lambda pair: _digest(f"{pair.german}\t{pair.english}"))
        seen.update(forms)
    return splits


def _is_balanced(pair: Pair) -> bool:
    """Whether both texts have similar numbers of words."""
    short, long = sorted(len(text.split()) for text in (pair.german, pair.english))
    return long <= 1.5 * short + 3


def _is_wanted(pair: Pair) -> bool:
    """Whether both texts have the right length and no code, and the English one is translated."""
    for text in (pair.german, pair.english):
        words, letters = text.split(), len(_LETTER.findall(text))
        if not _SHORTEST <= len(words) <= _LONGEST or max(map(len, words)) > _LONGEST_WORD:
            return False
        if letters < _LETTERS * len("".join(words)) or _CODE.search(text):
            return False
    return _is_balanced(pair) and _normal_form(pair.german) != _normal_form(pair.english)


def _normal_form(text: str) -> str:
    """Returns what texts have in common that differ in case, numbers, punctuation and spaces."""
    return "".join(x for x in re.sub(r"\d+", "0", text.casefold()) if x.isalnum())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
