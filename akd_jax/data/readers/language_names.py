"""Names of languages, places, scripts and currencies: in which of 94 languages is a name written?

The names are those of Unicode's Common Locale Data Repository (CLDR, https://cldr.unicode.org,
Unicode License). The Python package Babel contains them, so that they need no download. Each
version of Babel has the names of one version of CLDR.
"""

import collections
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from akd_jax.data.dataset import Examples, Source
from akd_jax.host.errors import require
from akd_jax.types import Task

# The languages with at least 1,000 names in CLDR 49 (Babel 2.19), and three variants in another
# script or country. Norwegian Bokmål is not among them: CLDR has its names under two codes.
_CODES = """
ar ast az ba bew bg bn br brx bs ca ccp cs cv cy da de el en es et eu fa fi fo fr fy ga gd gl gsw gu
he hi hr hu hy id ig is it ja ka kab kgp kk kn ko ks ku lb lo lt lv mk ml mn mr ms my ne nl nn or pl
pt pt_PT rm ro ru sc shn sk sl so sq sr sr_Latn sv sw ta te th to tr ug uk vec vi yrl yue zh zh_Hant
zu
"""
LANGUAGES = tuple(_CODES.split())

_SHORTEST = 4  # Shorter names, such as most symbols of currencies, tell little of a language.

# The percentages of the concepts in the test and the validation split.
_TEST, _VALIDATION = 15, 10


def load(data_dir: Path | None) -> Source:
    """Returns the names as texts, and the codes of their languages as classes.

    All names of one concept, such as the country DE, are in the same split, so that no concept of
    the test split occurs in training. A name that occurs in several languages is left out. A name
    of several concepts of one language is a single example.

    Args:
      data_dir: ignored, because Babel contains the names.

    Raises:
      InputError: Babel is not installed.
    """
    del data_dir
    babel = require("babel", "text")
    concepts = [_concepts(babel.Locale.parse(language)) for language in LANGUAGES]
    languages = collections.Counter(name for names in concepts for name in names)
    rows = [
        (concept, label, name)
        for label, names in enumerate(concepts)
        for name, concept in names.items()
        if languages[name] == 1
    ]
    rows.sort()  # By concept, so that all languages occur among the first examples of a split.
    splits: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    for concept, label, name in rows:
        splits[_split(concept)].append((label, name))
    return Source(
        train=_examples(splits["train"]),
        test=_examples(splits["test"]),
        task=Task(LANGUAGES),
        normalise=None,
        validation=_examples(splits["validation"]),
        columns=("sentence",),
    )


def _concepts(locale: Any) -> dict[str, tuple[str, str]]:
    """Maps the names in a language to the kind and the code of what they name."""
    concepts: dict[str, tuple[str, str]] = {}
    for kind, code, name in _names(locale):
        if len(name) >= _SHORTEST:
            concepts.setdefault(name, (kind, code))
    return concepts


def _names(locale: Any) -> Iterator[tuple[str, str, str]]:
    """Yields kind, code and name of all that has a name in a language."""
    for kind in ("languages", "territories", "scripts", "variants", "currencies"):
        for code, name in sorted(getattr(locale, kind).items()):
            yield kind, code, name


def _split(concept: tuple[str, str]) -> str:
    """Returns the split of a concept, which depends only on a hash of its kind and code."""
    digest = hashlib.sha256(" ".join(concept).encode()).hexdigest()
    number = int(digest, 16) % 100
    if number < _TEST:
        return "test"
    return "validation" if number < _TEST + _VALIDATION else "train"


def _examples(rows: list[tuple[int, str]]) -> Examples:
    labels, names = zip(*rows, strict=True)
    return Examples(np.array(names, object)[:, None], np.array(labels, np.int32))
