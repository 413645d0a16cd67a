import collections
import itertools

import babel
import numpy as np
import pytest

from akd_jax.data.readers import language_names

# Of Babel 2.19. Another version has other names, and may change these numbers by a few percent.
SIZES = {"train": 62302, "validation": 6709, "test": 11786}


@pytest.fixture(scope="module")
def splits():
    source = language_names.load(None)
    return {"train": source.train, "validation": source.validation, "test": source.test}


def names(splits):
    """All names in all splits, with their languages."""
    for split, examples in splits.items():
        for name, label in zip(examples.inputs[:, 0], examples.labels, strict=True):
            yield split, name, language_names.LANGUAGES[label]


def test_sizes_and_classes(splits):
    assert len(set(language_names.LANGUAGES)) == 94
    for split, size in SIZES.items():
        examples = splits[split]
        assert examples.inputs.shape == (len(examples), 1)
        assert len(examples) == pytest.approx(size, rel=0.1)
        assert examples.labels.dtype == np.int32
        assert set(examples.labels) == set(range(94))


def test_no_name_occurs_twice(splits):
    counts = collections.Counter(name for _, name, _ in names(splits))
    assert max(counts.values()) == 1
    assert min(map(len, counts)) == 4


def test_names_are_those_of_babel(splits):
    found = {(name, language): split for split, name, language in names(splits)}
    concept = {("Kokosinseln", "de"), ("Cocos (Keeling) Islands", "en"), ("Îles Cocos", "fr")}
    assert concept <= found.keys()
    assert len({found[row] for row in concept}) == 1
    # Names of several languages, and one of three letters.
    assert not {name for name, _ in found} & {"Peru", "Paraguay", "USA"}


def test_all_names_of_a_concept_are_in_one_split(splits):
    found = {(name, language): split for split, name, language in names(splits)}
    concepts = collections.defaultdict(set)  # The splits in which a country's names are.
    for language in language_names.LANGUAGES:
        locale = babel.Locale.parse(language)
        kinds = ("languages", "territories", "scripts", "variants", "currencies")
        concept_of = collections.Counter(
            itertools.chain(*(getattr(locale, kind).values() for kind in kinds))
        )
        for code, name in locale.territories.items():
            if concept_of[name] == 1 and (name, language) in found:
                concepts[code].add(found[name, language])
    assert len(concepts) > 250
    assert all(len(places) == 1 for places in concepts.values())
