import contextlib
import logging
import re

import numpy as np
import pytest
import soundfile

from akd_jax.data.readers import speech as reader
from akd_jax.data.speech import codebook, recordings
from akd_jax.data.speech.features import FeatureSettings, code_features
from akd_jax.host import files
from akd_jax.host.errors import StoppedError
from experiments import prepare
from experiments.preparation import speech
from experiments.preparation.speech import Options
from experiments.prepare import prepare_dataset
from tests.support.errors import error_of
from tests.support.recordings import JUICE, tone, write_commands, write_recordings, write_wav
from tests.support.stopping import stop_at_check

OPTIONS = Options(codes=8)


def write(folder, **options):
    write_recordings(folder, write_commands(folder, **options))
    return folder


def refusal(folder, options=OPTIONS):
    return error_of(speech.prepare, folder, options)


def read(folder):
    """The content of the files that a preparation writes."""
    return [(folder / name).read_bytes() for name in ("codes.tsv", "codebook.npz")]


def read_codes(folder):
    lines = (folder / "codes.tsv").read_text().splitlines()
    assert lines.pop(0) == "path\tcodes"
    return dict(line.split("\t") for line in lines)


def test_recordings_become_codes_that_the_reader_finds(tmp_path):
    write(tmp_path, pretrain=[("wavs/p.wav", "well", "", "", "")])
    line = prepare_dataset("speech_commands_csv", tmp_path, speech_options=OPTIONS)
    start = f"speech_commands_csv is ready in {tmp_path}: 6 training and 2 test examples; "
    assert line.startswith(start)
    codes = read_codes(tmp_path)
    lengths = [len(words.split()) for words in codes.values()]
    used = len({word for words in codes.values() for word in words.split()})
    assert line[len(start) :] == (
        f"{used} codes in use, {np.mean(lengths):.1f} codes per recording and at most"
        f" {max(lengths)}"
    )
    assert used > 4
    source = reader.load(tmp_path)
    assert source.train.inputs[3].tolist() == [codes["wavs/train_3.wav"], "turn on the lamp"]
    assert source.unlabelled.inputs[:, 0].tolist() == [codes["wavs/p.wav"]]


def test_codes_are_those_of_the_saved_codebook(tmp_path):
    speech.prepare(write(tmp_path), Options(codes=8, hops_per_code=2))
    book = codebook.load(tmp_path / "codebook.npz")
    assert len(book) == 8
    assert book.settings == FeatureSettings(hops_per_code=2)
    for path, words in read_codes(tmp_path).items():
        samples = recordings.read(tmp_path / path, 16_000).samples
        expected = book.encode(code_features(samples, book.settings))
        np.testing.assert_array_equal([int(word) for word in words.split()], expected)


def test_codebook_is_fitted_to_train_and_pretrain_only(tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        write(folder, pretrain=[("wavs/p.wav", "well", "", "", "")])
    for split in ("valid", "test"):
        write_wav(folders[1] / f"wavs/{split}_0.wav", tone(5_000))
    for folder in folders:
        speech.prepare(folder, OPTIONS)
    books = [codebook.load(folder / "codebook.npz").centres for folder in folders]
    np.testing.assert_array_equal(*books)
    write_wav(folders[1] / "wavs/p.wav", tone(5_000))
    for name in ("codes.tsv", "codebook.npz"):
        (folders[1] / name).unlink()
    speech.prepare(folders[1], OPTIONS)
    assert (codebook.load(folders[1] / "codebook.npz").centres != books[0]).any()


def test_flac_has_the_codes_of_wav(tmp_path):
    write(tmp_path / "wav")
    write(tmp_path / "flac")
    for path in (tmp_path / "flac/wavs").iterdir():
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples, rate, format="FLAC")
        assert path.read_bytes()[:4] == b"fLaC"
    for name in ("wav", "flac"):
        speech.prepare(tmp_path / name, OPTIONS)
    assert read_codes(tmp_path / "wav") == read_codes(tmp_path / "flac")


def test_finished_preparation_changes_nothing_and_needs_no_recordings(tmp_path):
    speech.prepare(write(tmp_path), OPTIONS)
    before = read(tmp_path)
    for path in (tmp_path / "wavs").iterdir():
        path.unlink()
    speech.prepare(tmp_path, OPTIONS)
    assert read(tmp_path) == before


def test_preparation_goes_on_where_it_was(tmp_path):
    speech.prepare(write(tmp_path), OPTIONS)
    before = read(tmp_path)
    lines = (tmp_path / "codes.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "codes.tsv").write_text("".join(lines[:6]))
    (tmp_path / "wavs/train_0.wav").unlink()  # It has codes, so that it is not read again.
    speech.prepare(tmp_path, OPTIONS)
    assert read(tmp_path) == before


@pytest.mark.parametrize("check", [3, 8, 15])  # The first 6 of 16 recordings are for the codebook.
def test_stopped_preparation_equals_an_undisturbed_one(tmp_path, check):
    for name in ("one", "other"):
        write(tmp_path / name)
    speech.prepare(tmp_path / "one", OPTIONS)
    with stop_at_check(check), pytest.raises(StoppedError, match="run the same command to resume"):
        speech.prepare(tmp_path / "other", OPTIONS)
    assert (tmp_path / "other/codebook.npz").exists() == (check > 6)
    speech.prepare(tmp_path / "other", OPTIONS)
    assert read(tmp_path / "one") == read(tmp_path / "other")


def test_new_recordings_get_codes_of_the_existing_codebook(tmp_path):
    speech.prepare(write(tmp_path), OPTIONS)
    before = read_codes(tmp_path)
    book = (tmp_path / "codebook.npz").read_bytes()
    write_commands(tmp_path, train=[("wavs/new.wav", *JUICE), ("wavs/train_1.wav", *JUICE)])
    write_wav(tmp_path / "wavs/new.wav", tone(999))
    speech.prepare(tmp_path, OPTIONS)
    after = read_codes(tmp_path)
    assert set(after) - set(before) == {"wavs/new.wav"}
    assert before.items() < after.items()
    assert (tmp_path / "codebook.npz").read_bytes() == book


def test_codes_of_another_program_are_kept(tmp_path):
    paths = write_commands(tmp_path)
    rows = "".join(f"{path}\t17-205 0-3\n" for path in paths)
    (tmp_path / "codes.tsv").write_text(f"path\tcodes\n{rows}")
    line = prepare_dataset("speech_commands_csv", tmp_path)
    assert line.endswith("; 2 codes in use, 2.0 codes per recording and at most 2")
    assert not (tmp_path / "codebook.npz").exists()
    write_recordings(tmp_path, ["wavs/test_1.wav"])
    (tmp_path / "codes.tsv").write_text(f"path\tcodes\n{paths[0]}\t17-205 0-3\n")
    write_recordings(tmp_path, paths)
    message = refusal(tmp_path)
    assert message.startswith(
        f"{tmp_path / 'codebook.npz'}: expected the codebook that made codes.tsv, got no file"
    )
    assert "add the 9 missing recordings to codes.tsv" in message


def test_other_sample_rates_are_resampled_and_said_once(tmp_path, caplog):
    write(tmp_path)
    for name in ("train_1", "train_2", "test_0"):
        write_wav(tmp_path / f"wavs/{name}.wav", tone(440, rate=8_000), rate=8_000)
    with caplog.at_level(logging.WARNING):
        speech.prepare(tmp_path, OPTIONS)
    (message,) = [record.getMessage() for record in caplog.records]
    assert re.search(
        r"train_[12]\.wav has a sample rate of 8000 Hz; .* resampled to 16000 Hz", message
    )
    codes = read_codes(tmp_path)
    assert len(codes["wavs/test_0.wav"].split()) == len(codes["wavs/train_0.wav"].split()) == 9


def test_missing_recording_is_reported_with_its_line_before_any_is_read(tmp_path):
    write(tmp_path)
    (tmp_path / "wavs/train_0.wav").write_bytes(b"no audio")
    (tmp_path / "wavs/valid_1.wav").unlink()
    assert refusal(tmp_path).startswith(
        f"{tmp_path / 'valid_data.csv'}, line 3: expected the recording"
        f" {tmp_path / 'wavs/valid_1.wav'}, got no file"
    )


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "got an empty file"), (b"no audio", "expected audio such as WAV or FLAC")],
)
@pytest.mark.parametrize("name", ["train_4", "test_1"])
def test_damaged_recording_is_reported_with_its_line(tmp_path, name, content, part):
    split, number = name.split("_")
    path = write(tmp_path) / f"wavs/{name}.wav"
    path.write_bytes(content)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}/{split}_data.csv, line {int(number) + 2}: {path}: ")
    assert part in message


def test_existing_codebook_of_other_options_is_refused(tmp_path):
    speech.prepare(write(tmp_path), OPTIONS)
    message = refusal(tmp_path, Options(codes=8, hops_per_code=2))
    assert "expected a codebook of features with hops_per_code=2, got 3" in message
    message = refusal(tmp_path, Options(codes=16))
    assert "expected a codebook of 16 codes, got 8; give --codes=8, or delete" in message


def test_too_few_recordings_for_the_codebook_are_refused(tmp_path):
    message = refusal(write(tmp_path), Options(codes=1_000))
    assert "expected recordings of at least 1000 codes to fit a codebook of 1000" in message


def test_folder_that_another_process_prepares_is_refused(tmp_path):
    write(tmp_path)
    with contextlib.ExitStack() as other:
        files.lock(tmp_path, other, wait=False)
        message = error_of(prepare_dataset, "speech_commands_csv", tmp_path)
    assert message.startswith(f"{tmp_path}: expected no other process to prepare this folder")
    assert not (tmp_path / "codes.tsv").exists()


def test_launcher_passes_its_flags_on(tmp_path, run_launcher):
    write(tmp_path)
    ended = run_launcher(
        prepare.main,
        "--dataset=speech_commands_csv",
        f"--data_dir={tmp_path}",
        "--codes=5",
        "--hops_per_code=2",
    )
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith("speech_commands_csv is ready")
    assert codebook.load(tmp_path / "codebook.npz").centres.shape == (5, 120)
