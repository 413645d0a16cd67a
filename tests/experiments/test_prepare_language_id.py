"""Texts for language identification, from small catalogs in the layout of Debian's packages."""

import collections

import pytest

from akd_jax.data.readers import tsv
from akd_jax.host.files import as_path
from experiments.preparation import debian, language_id
from experiments.prepare import prepare_dataset
from tests.support.errors import error_of
from tests.support.gettext_files import write_catalog

ENGLISH = [f"Text number {a}{b}" for a in "abcdefgh" for b in "abcdefgh"]


def translated(words):
    return {english: f"{words} {english.split()[-1]}" for english in ENGLISH}


@pytest.fixture(autouse=True)
def packages(monkeypatch, tmp_path):
    """Replaces the download by small catalogs."""
    folder = tmp_path / "packages/gimp-data"
    places = {
        "de": {
            **translated("Text Nummer"),
            "_Save <b>all</b>": "_Alle <b>Texte</b> speichern",
            "One": "Eins",  # One word.
            "OK now": "OK now",  # Not translated.
            "Same text": "Ein gleicher Text",
            ("%d file", "%d files"): ("Eine Datei", "Mehrere Dateien"),
        },
        "nds": {**translated("Text Nummer vun"), "Same text": "Ein gleicher Text"},
        "fr": {"A text": "un texte court"},  # Too few.
    }
    for language, messages in places.items():
        path = folder / f"usr/share/locale/{language}/LC_MESSAGES/gimp.mo"
        write_catalog(path, messages)
    monkeypatch.setattr(debian, "download", lambda packages, target: {"gimp-data": folder})
    monkeypatch.setattr(language_id, "_LEAST", 60)
    monkeypatch.setattr(language_id, "_MOST", 64)


def test_texts_of_two_languages_in_splits_by_their_english_text(tmp_path):
    folder = as_path(str(tmp_path / "data"))
    assert "language_id is ready" in prepare_dataset("language_id", folder)
    rows = {
        split: list(tsv.read(folder / f"{split}.tsv", ("sentence", "label")).rows.values())
        for split in language_id.SPLITS
    }
    split_of = collections.defaultdict(set)
    labels = collections.Counter()
    for split, of_split in rows.items():
        for text, label in of_split:
            labels[label] += 1
            split_of[text.split()[-1]].add(split)
    assert labels == {"de": 64, "nds": 64}  # Each has a text that the other one has too.
    assert all(len(splits) == 1 for splits in split_of.values())
    texts = {text for of_split in rows.values() for text, _ in of_split}
    assert "Ein gleicher Text" not in texts  # Of both languages.
    assert not [text for text in texts if "Datei" in text or text == "Eins"]
    assert min(len(rows["dev"]), len(rows["test"])) >= 4
    assert len(rows["train"]) > 64
    source = tsv.load(folder)
    assert source.task.labels == ("de", "nds")


def test_catalogs_of_one_language_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(language_id, "_LEAST", 67)
    message = error_of(prepare_dataset, "language_id", as_path(str(tmp_path / "data")))
    assert "expected at least two languages with 67 texts, got none; make the data set" in message
