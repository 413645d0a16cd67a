import collections
import csv
import shutil

import numpy as np
import pytest

from akd_jax.data.readers import speech as reader
from akd_jax.data.speech import recordings
from akd_jax.host.errors import StoppedError
from experiments.preparation import sentences, spoken_intents, voices
from experiments.preparation.commands import WORDINGS
from experiments.preparation.speech import Options
from experiments.preparation.spoken_intents import Sizes
from experiments.prepare import prepare_dataset
from tests.support import vader
from tests.support.errors import error_of
from tests.support.stopping import stop_at_check

PROGRAMS = ("espeak-ng", "flite", "sox")
OPTIONS = Options(codes=16)
SIZES = Sizes(train=31, valid=3, test=24, pretrain=4)
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)} of Debian"
)


def make(folder, sizes=SIZES, seed=0):
    folder.mkdir(exist_ok=True)
    (folder / "sentences.txt").write_text("the cast is fine\nso far so good\nno one can say why\n")
    spoken_intents.prepare(folder, sizes, seed, OPTIONS)
    return folder


def read(folder):
    """The content of all files, by their paths."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read_csv(folder, name):
    with (folder / f"{name}_data.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make(tmp_path_factory.mktemp("corpus"))


def test_there_are_31_intents_and_each_wording_has_one():
    assert len(WORDINGS) == 31
    wordings = collections.Counter(text for texts in WORDINGS.values() for text in texts)
    assert max(wordings.values()) == 1
    objects = collections.Counter((action, thing) for action, thing, _ in WORDINGS)
    assert objects["activate", "lights"] == objects["decrease", "heat"] == 4
    assert sum(action == "change language" for action, _, _ in WORDINGS) == 5


@pytest.mark.parametrize("seed", [0, 7])
def test_voices_of_the_splits_differ(seed):
    chosen = voices.choose(seed)
    assert {split: len(part) for split, part in chosen.items()} == {
        "train": 42,
        "valid": 10,
        "test": 18,
    }
    names = [voice.name for part in chosen.values() for voice in part]
    variants = [name.partition("+")[2] or name for name in names]
    assert len(set(variants)) == 70
    flite = {
        split: {v.name for v in part if v.program == "flite"} for split, part in chosen.items()
    }
    assert flite == {"train": {"kal16", "awb"}, "valid": set(), "test": {"rms", "slt"}}
    assert chosen == voices.choose(seed) != voices.choose(seed + 1)


def test_sentences_without_intents_are_short_plain_and_no_commands():
    common = ["we like the film", "it is the film we like", "we like it"]
    rows = [(1, "we like the film it is") for _ in range(3)]  # Repeated sentences count once.
    rows += [(1, f"we like the film, {text}") for text in common]
    rows += [(2, "The &quot;film&quot; is what we like -- it is the film."), (1, "We like 2 films")]
    rows += [(0, "it is what it is, the film"), (1, "is it what it is"), (1, "what the film is")]
    rows += [(0, "is the film what we like"), (0, "we like the zebra"), (1, "turn on the lamp")]
    archive = vader.archive(
        tweets=[(1, "this is what it is")],
        movieReviewSnippets=rows,
        amazonReviewSnippets=[(1, "is it what we like?")],
        nytEditorialSnippets=[(1, "it is not " + 7 * "the film ")],
    )
    found = sentences.collect(archive, ["Is it what it is"])
    assert sorted(found) == [
        "is it what we like",
        "is the film what we like",
        "it is the film",
        "it is the film we like",
        "it is what it is",
        "the film is what we like",
        "we like the film",
        "we like the film it is",
        "what the film is",
    ]
    assert found == sentences.collect(archive, ["Is it what it is"])


def test_missing_programs_are_reported_with_the_command_that_installs_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = error_of(voices.check_programs)
    assert message == (
        "expected the programs espeak-ng, flite, sox, got no espeak-ng, flite, sox; install them"
        " with: apt-get install espeak-ng flite sox"
    )


def test_missing_variant_of_espeak_is_reported(tmp_path, monkeypatch):
    for name in PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\necho '5 variant --/M Adam !v/adam'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    message = error_of(voices.check_programs)
    assert "expected the espeak-ng variants Alex, Alicia" in message
    assert "got no Alex, Alicia, Andrea" in message


def test_failing_program_is_reported(tmp_path, monkeypatch):
    for name in PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\necho 'no such library' >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "espeak-ng: expected speech, got: no such library" in error_of(voices.check_programs)


@needs_programs
def test_corpus_has_the_layout_that_the_reader_expects(corpus):
    source = reader.load(corpus)
    assert len(source.task.labels) == 31
    assert sorted(source.train.labels) == list(range(31))
    assert [len(part) for part in (source.validation, source.test, source.unlabelled)] == [3, 24, 4]
    assert source.unlabelled.inputs[:, 1].tolist() == [
        "the cast is fine",
        "so far so good",
        "no one can say why",
        "the cast is fine",
    ]
    rows = {name: read_csv(corpus, name) for name in ("train", "valid", "test", "test_flite")}
    speakers = {name: {row["speakerId"] for row in part} for name, part in rows.items()}
    assert not speakers["train"] & (speakers["valid"] | speakers["test"])
    assert not speakers["valid"] & speakers["test"]
    assert speakers["test_flite"] <= {"flite_rms", "flite_slt"}
    assert [{**row, "": ""} for row in rows["test_flite"]] == [
        {**row, "": ""} for row in rows["test"] if row["speakerId"].startswith("flite")
    ]
    assert set(source.others) == {"test_flite"}
    for row in rows["train"]:
        intent = row["action"], row["object"], row["location"]
        assert row["transcription"] in WORDINGS[intent]
        assert row["path"].startswith(f"wavs/speakers/{row['speakerId']}/train_")


@needs_programs
def test_recordings_are_speech_in_noise(corpus):
    for row in read_csv(corpus, "test"):
        recording = recordings.read(corpus / row["path"], 16_000)
        assert recording.original_rate == 16_000
        samples = recording.samples
        assert 0.4 < len(samples) / 16_000 < 6
        assert 0.4 < np.abs(samples).max() < 0.8  # Speech with a peak of 0.5, and noise.
        # Only noise is in the silence at the start, which differs from speech by 15 to 35 dB.
        noise, all_of_it = samples[100:700].std(), samples.std()
        assert 13 < 20 * np.log10(all_of_it / noise) < 38


@needs_programs
def test_stopped_preparation_equals_an_undisturbed_one(corpus, tmp_path):
    with stop_at_check(20), pytest.raises(StoppedError, match="train: 31 utterances: stopped"):
        make(tmp_path)
    assert not (tmp_path / "train_data.csv").exists()
    assert read(make(tmp_path)) == read(corpus)


@needs_programs
def test_larger_corpus_contains_the_smaller_one(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "larger")
    larger = Sizes(train=33, valid=3, test=24, pretrain=4)
    prepare_dataset("spoken_intents", tmp_path / "larger", sizes=larger, speech_options=OPTIONS)
    before, after = read(corpus), read(tmp_path / "larger")
    added = set(after) - set(before)
    assert len(added) == 2
    assert all(name.endswith(("train_31.wav", "train_32.wav")) for name in added)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"train_data.csv", "codes.tsv"}
    assert read_csv(tmp_path / "larger", "train")[:31] == read_csv(corpus, "train")


def test_fewer_training_utterances_than_intents_are_refused(tmp_path):
    message = error_of(spoken_intents.prepare, tmp_path, Sizes(train=30), 0, OPTIONS)
    assert message == (
        "--train: expected at least 31 training utterances, one for each intent, got 30"
    )


@needs_programs
def test_folder_of_another_seed_is_refused(corpus):
    message = error_of(spoken_intents.prepare, corpus, SIZES, 1, OPTIONS)
    assert message == (
        f"{corpus}: expected the corpus of --seed=1, got that of --seed=0; choose another folder"
    )
