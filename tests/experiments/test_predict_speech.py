"""Predictions and exports of a network for speech, on recordings."""

import jax
import numpy as np
import pytest
import soundfile

from akd_jax import runs
from akd_jax.data.speech import codebook, recordings
from akd_jax.data.speech.features import code_features
from akd_jax.host.errors import InputError
from configs import default
from experiments import export, predict
from experiments.preparation.speech import Options
from experiments.prepare import prepare_dataset
from tests.support.recordings import tone, write_commands, write_csv, write_recordings, write_wav


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of recordings with their codes, and a finished run. Tests must not change it."""
    root = tmp_path_factory.mktemp("speech")
    write_recordings(root / "data", write_commands(root / "data"))
    prepare_dataset("speech_commands_csv", root / "data", speech_options=Options(codes=8))
    config = default.get_config()
    config.method = "scratch"
    config.batch_size = 4
    config.dataset.name = "speech_commands_csv"
    config.dataset.data_dir = str(root / "data")
    config.dataset.validation_size = 0
    config.dataset.max_codes = 24
    config.dataset.bucketing = False
    config.student.model = "speech:8,1x16,light:8"
    config.student.epochs = 1
    runs.run(config, root / "run")
    return root


def codes_of(folder, path):
    """The codes of a recording, from the parts of the preparation."""
    book = codebook.load(folder / "data/codebook.npz")
    return book.encode(code_features(recordings.read(path, 16_000).samples, book.settings))


def logits_of(folder, paths):
    """The logits of the student for recordings, each by itself."""
    plan, models = runs.load(folder / "run")
    rows = []
    for path in paths:
        words = " ".join(map(str, codes_of(folder, path)))
        examples, _ = plan.tokenise(np.array([[words, ""]], object))
        rows.append(np.asarray(models["student"](examples.inputs).logits)[0])
    return np.stack(rows)


def test_intents_of_the_recordings_in_a_csv_file(folder, tmp_path):
    write_wav(tmp_path / "audio/one.wav", tone(300))
    soundfile.write(tmp_path / "audio/two.flac", np.float32(tone(900, seconds=0.5)), 16_000)
    write_csv(
        tmp_path / "new.csv", [(f"audio/{x}", "", "", "", "") for x in ("one.wav", "two.flac")]
    )
    lines = predict.predict_file(folder / "run", tmp_path / "new.csv", tmp_path / "out.tsv")
    paths = [tmp_path / "audio/one.wav", tmp_path / "audio/two.flac"]
    labels = ["activate lamp none", "bring juice none"]
    best = logits_of(folder, paths).argmax(axis=-1)
    assert lines == ["index\tprediction", *(f"{i}\t{labels[x]}" for i, x in enumerate(best))]
    assert (tmp_path / "out.tsv").read_text().splitlines() == lines
    assert predict.predict_file(folder / "run", paths[1])[1] == f"0\t{labels[best[1]]}"


def test_other_sample_rate_is_resampled_and_said_once(folder, tmp_path, capsys):
    for name, rate in (("a.wav", 8_000), ("b.wav", 8_000), ("c.wav", 16_000)):
        write_wav(tmp_path / name, tone(300, rate=rate), rate)
    write_csv(tmp_path / "new.csv", [(f"{x}.wav", "", "", "", "") for x in "abc"])
    assert len(predict.predict_file(folder / "run", tmp_path / "new.csv")) == 4
    assert capsys.readouterr().out.splitlines() == [
        "2 of 3 recordings were resampled to 16,000 Hz."
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.wav", None, "expected a recording, got no file"),
        ("text.wav", b"no audio", "expected audio such as WAV or FLAC, got 8 bytes"),
        ("empty.wav", b"", "expected audio such as WAV or FLAC, got an empty file"),
    ],
)
def test_bad_recordings_are_refused_with_their_line(folder, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    write_wav(tmp_path / "good.wav", tone(300))
    write_csv(tmp_path / "new.csv", [(x, "", "", "", "") for x in ("good.wav", name)])
    with pytest.raises(InputError, match=message) as error:
        predict.predict_file(folder / "run", tmp_path / "new.csv")
    assert str(error.value).startswith(f"{tmp_path / 'new.csv'}, line 3: ")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message) as error:
        predict.predict_file(folder / "run", tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_exported_network_gives_the_logits_of_recordings(folder, tmp_path):
    export.export_network(folder / "run", "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    paths = sorted((folder / "data/wavs").glob("t*.wav"))
    codes = [codes_of(folder, path) for path in paths]
    # A start token 0, and 3 more than each code; padding is 1. See the launcher's documentation.
    lengths = np.int32([len(x) + 1 for x in codes])
    ids = np.full((len(codes), lengths.max()), 1, np.int32)
    ids[:, 0] = 0
    for row, x in enumerate(codes):
        ids[row, 1 : len(x) + 1] = 3 + x
    actual = exported.call(ids, np.zeros_like(ids), lengths)
    np.testing.assert_allclose(actual, logits_of(folder, paths), atol=1e-5)
