import numpy as np
import pytest
import soundfile

from akd_jax.data.speech import recordings
from tests.support.errors import error_of
from tests.support.recordings import tone, write_wav


def test_wav_is_read_as_numbers_from_minus_1_to_1(tmp_path):
    write_wav(tmp_path / "a.wav", [0, 1, -1, 0.5])
    recording = recordings.read(tmp_path / "a.wav", 16_000)
    assert recording.original_rate == 16_000
    assert recording.samples.dtype == np.float32
    np.testing.assert_allclose(recording.samples, [0, 1, -1, 0.5], atol=4e-5)


def test_flac_gives_the_samples_of_wav(tmp_path):
    write_wav(tmp_path / "a.wav", tone(440))
    samples = recordings.read(tmp_path / "a.wav", 16_000).samples
    soundfile.write(tmp_path / "a.flac", samples, 16_000)
    assert (tmp_path / "a.flac").read_bytes()[:4] == b"fLaC"
    np.testing.assert_array_equal(recordings.read(tmp_path / "a.flac", 16_000).samples, samples)


def test_channels_are_averaged(tmp_path):
    left, right = tone(440), tone(700, seed=1)
    write_wav(tmp_path / "a.wav", np.stack([left, right], axis=1))
    samples = recordings.read(tmp_path / "a.wav", 16_000).samples
    np.testing.assert_allclose(samples, (left + right) / 2, atol=4e-5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_sample_rates_are_resampled(tmp_path, rate):
    sines = {
        each: 0.5 * np.sin(2 * np.pi * 440 * np.arange(each) / each) for each in (rate, 16_000)
    }
    write_wav(tmp_path / "a.wav", sines[rate], rate)
    recording = recordings.read(tmp_path / "a.wav", 16_000)
    assert recording.original_rate == rate
    assert recording.samples.shape == (16_000,)
    assert recording.samples.dtype == np.float32
    inside = slice(200, -200)  # The filter sees zeros beyond the ends.
    np.testing.assert_allclose(recording.samples[inside], sines[16_000][inside], atol=2e-3)


def test_resampling_removes_frequencies_that_the_new_rate_does_not_have():
    high = np.sin(2 * np.pi * 11_000 * np.arange(44_100) / 44_100).astype(np.float32)
    assert np.abs(recordings.resample(high, 44_100, 16_000)[200:-200]).max() < 5e-3


def test_missing_recording_is_reported(tmp_path):
    message = error_of(recordings.read, tmp_path / "a.wav", 16_000)
    assert message.startswith(f"{tmp_path / 'a.wav'}: expected a recording, got no file")


def test_folder_is_reported(tmp_path):
    message = error_of(recordings.read, tmp_path, 16_000)
    assert message.startswith(f"{tmp_path}: expected a recording that can be read, got: Is a dir")


@pytest.mark.parametrize(
    ("content", "got"), [(b"", "an empty file"), (b"<html>no audio</html>", "21 bytes of some")]
)
def test_file_without_audio_is_reported(tmp_path, content, got):
    (tmp_path / "a.wav").write_bytes(content)
    message = error_of(recordings.read, tmp_path / "a.wav", 16_000)
    assert f"a.wav: expected audio such as WAV or FLAC, got {got}" in message


def test_cut_off_flac_is_reported(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(440), 16_000)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    assert "a.flac: expected" in error_of(recordings.read, tmp_path / "a.flac", 16_000)


def test_recording_without_samples_is_reported(tmp_path):
    write_wav(tmp_path / "a.wav", [])
    message = error_of(recordings.read, tmp_path / "a.wav", 16_000)
    assert "a.wav: expected a recording, got no samples; record or fetch it again" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_reported(tmp_path, value):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, value, 0.0]), 16_000, subtype="FLOAT")
    message = error_of(recordings.read, tmp_path / "a.wav", 16_000)
    assert "a.wav: expected finite samples, got NaN or infinity" in message
