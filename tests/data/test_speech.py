import csv

import numpy as np
import pytest

from akd_jax import data
from akd_jax.data.readers import speech
from akd_jax.data.speech.codebook import Codebook
from akd_jax.data.speech.features import FeatureSettings
from akd_jax.types import UNLABELLED
from tests.support.errors import error_of
from tests.support.recordings import JUICE, LAMP, write_commands, write_csv

INTENTS = ("activate lamp none", "bring juice none")


def write_codes(folder, paths, codes="0 3 1"):
    rows = "".join(f"{path}\t{codes}\n" for path in paths)
    (folder / "codes.tsv").write_text(f"path\tcodes\n{rows}")


def write(folder, **options):
    write_codes(folder, write_commands(folder, **options))
    return folder


def assert_rows(examples, rows):
    assert examples.inputs.shape == (len(rows), 2)
    assert examples.inputs.tolist() == [list(row) for row in rows]


def test_codes_transcriptions_and_intents_are_read(tmp_path):
    write(tmp_path)
    lines = (tmp_path / "codes.tsv").read_text().splitlines()
    lines[1] = "wavs/train_0.wav\t7 7 12"
    (tmp_path / "codes.tsv").write_text("\n".join(lines))
    source = speech.load(tmp_path)
    assert source.task.labels == INTENTS
    assert source.task.metrics == ("accuracy",)
    assert source.columns == ("codes", "transcription")
    assert source.kinds == ("codes", "text")
    assert source.normalise is source.unlabelled is None
    assert source.others == {}
    juice, lamp = ("0 3 1", JUICE[0]), ("0 3 1", LAMP[0])
    assert_rows(source.train, [("7 7 12", JUICE[0]), lamp, juice, lamp, juice, lamp])
    assert source.train.labels.dtype == np.int32
    assert source.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    for split in (source.validation, source.test):
        assert_rows(split, [juice, lamp])
        assert split.labels.tolist() == [1, 0]


def test_csv_files_can_lie_in_a_subfolder_as_published(tmp_path):
    source = speech.load(write(tmp_path, subfolder="data"))
    assert len(source.train) == 6


def test_utterances_without_an_intent_and_additional_test_splits_are_read(tmp_path):
    pretrain = [("wavs/p.wav", "wait, he said", "", "", "")]
    source = speech.load(write(tmp_path, pretrain=pretrain, test_flite=[("wavs/f.wav", *LAMP)]))
    assert_rows(source.unlabelled, [("0 3 1", "wait, he said")])
    assert source.unlabelled.labels.tolist() == [UNLABELLED]
    assert source.unlabelled.labels.dtype == np.int32
    assert set(source.others) == {"test_flite"}
    assert source.others["test_flite"].labels.tolist() == [0]


def test_both_names_of_the_reader_give_splits_of_a_run(tmp_path):
    write(tmp_path, pretrain=[("p.wav", "so", "", "", "")], test_flite=[("f.wav", *LAMP)])
    for name in ("speech_commands_csv", "spoken_intents"):
        config = data.DatasetConfig(name=name, data_dir=str(tmp_path), validation_size=0)
        loaded = data.load(config)
        assert set(loaded.splits) == {"train", "validation", "test", "test_flite", "unlabelled"}
        assert loaded.test_splits == ["test", "test_flite"]


def test_other_columns_quotes_and_pairs_of_codes_are_read(tmp_path):
    write_commands(tmp_path)
    with (tmp_path / "train_data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("location", "action", "extra", "object", "path", "transcription"))
        writer.writerow(("none", "bring", "x", "juice", "a.wav", 'He said: "juice, please"'))
        writer.writerow(("none", "activate", "x", "lamp", "b.wav", "two\nlines"))
    paths = ("a.wav", "b.wav", *(f"wavs/{s}_{n}.wav" for s in ("valid", "test") for n in (0, 1)))
    write_codes(tmp_path, paths, codes="17-205 0-3")
    source = speech.load(tmp_path)
    assert_rows(
        source.train,
        [("17-205 0-3", 'He said: "juice, please"'), ("17-205 0-3", "two\nlines")],
    )
    assert source.train.labels.tolist() == [1, 0]


def test_folder_is_required():
    assert "config.dataset.data_dir: expected the folder of the CSV" in error_of(speech.load, None)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_missing_file_is_reported(tmp_path, name):
    write(tmp_path)
    (tmp_path / f"{name}_data.csv").unlink()
    message = error_of(speech.load, tmp_path)
    assert message.startswith(f"{tmp_path / f'{name}_data.csv'}: expected a file, got none")


@pytest.mark.parametrize("column", ["path", "transcription", "action", "object", "location"])
def test_missing_column_is_reported(tmp_path, column):
    write(tmp_path)
    path = tmp_path / "valid_data.csv"
    path.write_text(path.read_text().replace(column, "else", 1))
    message = error_of(speech.load, tmp_path)
    assert message.startswith(f"{path}, line 1: expected a header with path, transcription,")
    assert f"got no {column!r} in" in message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("path,transcription,action,object,location\na.wav,so\n", "line 2: expected as many cells"),
        ("path,transcription,action,object,location\n", "expected rows, got only a header"),
        ("", "line 1: expected a header with path"),
        (b"\xff\xfe\x00", "expected a CSV file in UTF-8"),
        ('path,transcription,action,object,location\n"a"b,c,d,e,f\n', "expected a CSV file"),
    ],
)
def test_malformed_file_is_reported(tmp_path, content, part):
    path = write(tmp_path) / "test_data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_start_and_part(error_of(speech.load, tmp_path), path, part)


def assert_start_and_part(message, path, part):
    assert message.startswith(str(path))
    assert part in message


def test_intent_that_train_does_not_have_is_reported_with_its_line(tmp_path):
    new = ("open the door", "open", "door", "none")
    write(tmp_path, valid=[("wavs/a.wav", *LAMP), ("wavs/b.wav", *new)])
    message = error_of(speech.load, tmp_path)
    assert message.startswith(
        f"{tmp_path / 'valid_data.csv'}, line 3: expected one of the 2 intents of train_data.csv,"
        " got 'open door none'"
    )


@pytest.mark.parametrize("intents", [(LAMP, LAMP), (LAMP, ("hm", "", "", ""))])
def test_train_must_have_two_intents_and_no_empty_one(tmp_path, intents):
    write(tmp_path, train=[(f"wavs/{n}.wav", *intent) for n, intent in enumerate(intents)])
    message = error_of(speech.load, tmp_path)
    assert message.startswith(f"{tmp_path / 'train_data.csv'}: expected at least two different")


def test_missing_codes_are_reported_with_the_command_that_makes_them(tmp_path):
    paths = write_commands(tmp_path)
    command = f"python -m experiments.prepare --dataset=speech_commands_csv --data_dir={tmp_path}"
    message = error_of(speech.load, tmp_path)
    assert message.startswith(f"{tmp_path / 'codes.tsv'}: expected the codes of the recordings")
    assert message.endswith(command)
    write_codes(tmp_path, [path for path in paths if path != "wavs/test_1.wav"])
    message = error_of(speech.load, tmp_path)
    assert message.startswith(
        f"{tmp_path / 'test_data.csv'}, line 3: expected the codes of wavs/test_1.wav in codes.tsv"
    )
    assert message.endswith(command)


@pytest.mark.parametrize("code", ["4", "17-205", "-1", "x"])
def test_codes_outside_the_codebook_are_reported(tmp_path, code):
    write(tmp_path)
    Codebook(np.ones((4, 120), np.float32), FeatureSettings()).save(tmp_path / "codebook.npz")
    assert len(speech.load(tmp_path).train) == 6
    path = tmp_path / "codes.tsv"
    path.write_text(path.read_text().replace("test_0.wav\t0 3", f"test_0.wav\t0 {code}"))
    message = error_of(speech.load, tmp_path)
    assert message.startswith(
        f"{path}, line 10: expected codes from 0 to 3 of codebook.npz for wavs/test_0.wav, got"
        f" {code!r}"
    )


def test_recording_with_an_empty_list_of_codes_is_reported(tmp_path):
    write(tmp_path)
    path = tmp_path / "codes.tsv"
    path.write_text(path.read_text().replace("test_0.wav\t0 3 1", "test_0.wav\t "))
    message = error_of(speech.load, tmp_path)
    assert message.startswith(f"{path}, line 10: expected codes for wavs/test_0.wav, got none")


def test_the_same_csv_reader_serves_other_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [("a.wav", "so", "", "", "")])
    table = speech.read_csv(tmp_path / "a.csv", ("speakerId", "path"))
    assert table.rows == {2: ["speaker", "a.wav"]}
