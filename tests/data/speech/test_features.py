import dataclasses

import numpy as np
import pytest

from akd_jax.data.speech.features import FeatureSettings, code_features, log_mel, mel_filters
from tests.support.recordings import tone

SETTINGS = FeatureSettings()


def speech_like(seconds=0.7, seed=0):
    """Noise whose loudness and tone change over time."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(16_000 * seconds)) / 16_000
    voice = np.sin(2 * np.pi * (200 + 900 * time) * time) * np.sin(9 * time) ** 2
    return (0.3 * voice + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def band_edges(settings):
    """The edges of the mel bands in Hz."""

    def mel(frequency):
        return 2595 * np.log10(1 + frequency / 700)

    mels = np.linspace(mel(settings.lowest), mel(settings.highest), settings.bands + 2)
    return 700 * (10 ** (mels / 2595) - 1)


def slow_log_mel(samples, settings):
    """The same features from a Fourier sum and interpolated triangles, in float64."""
    edges = band_edges(settings)
    bins = np.arange(settings.fft // 2 + 1)
    filters = [
        np.interp(bins * settings.sample_rate / settings.fft, edges[b : b + 3], [0, 1, 0])
        for b in range(settings.bands)
    ]
    place = np.arange(settings.window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * place / (settings.window - 1))
    fourier = np.exp(-2j * np.pi * np.outer(bins, place) / settings.fft)
    rows = []
    for start in range(0, len(samples) - settings.window + 1, settings.hop):
        window = samples[start : start + settings.window].astype(np.float64) * hann
        power = np.abs(fourier @ window) ** 2
        rows.append([np.log(triangle @ power + 1e-6) for triangle in filters])
    bands = np.array(rows)
    bands -= np.mean(bands, axis=0)
    return bands / np.sqrt(np.mean(bands**2))


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        FeatureSettings(sample_rate=8_000, window=200, hop=80, fft=256, bands=20, highest=3_800),
    ],
)
def test_log_mel_equals_a_slow_computation(settings):
    samples = speech_like()
    expected = slow_log_mel(samples, settings)
    bands = log_mel(samples, settings)
    assert bands.dtype == np.float32
    assert (
        bands.shape
        == expected.shape
        == (1 + (len(samples) - settings.window) // settings.hop, settings.bands)
    )
    np.testing.assert_allclose(bands, expected, atol=2e-4)


def test_filters_are_triangles_between_the_edges():
    filters, edges = mel_filters(SETTINGS), band_edges(SETTINGS)
    frequencies = np.fft.rfftfreq(512, 1 / 16_000)
    assert filters.shape == (40, 257)
    assert filters.max() <= 1
    for band in range(40):
        outside = (frequencies <= edges[band]) | (frequencies >= edges[band + 2])
        assert not filters[band, outside].any()
    # Between the centres of the first and the last band, the filters add up to 1.
    inside = (frequencies >= edges[1]) & (frequencies <= edges[-2])
    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1, atol=1e-6)


@pytest.mark.parametrize("frequency", [300, 1_000, 3_300, 6_500])
def test_energy_of_a_sine_lies_in_the_band_around_its_frequency(frequency):
    bands = log_mel(tone(frequency, seconds=0.9).astype(np.float32), SETTINGS)
    rise = bands[50:].mean(axis=0) - bands[:25].mean(axis=0)
    edges = band_edges(SETTINGS)
    assert edges[rise.argmax()] < frequency < edges[rise.argmax() + 2]
    assert edges[rise.argmax() + 1] == pytest.approx(frequency, rel=0.08)


def test_each_band_has_the_mean_0_and_the_recording_the_deviation_1():
    bands = log_mel(speech_like(), SETTINGS)
    np.testing.assert_allclose(bands.mean(axis=0), 0, atol=1e-5)
    assert bands.std() == pytest.approx(1, abs=1e-5)


def test_loudness_does_not_matter():
    samples = speech_like()
    np.testing.assert_allclose(
        log_mel(samples, SETTINGS), log_mel(samples / 4, SETTINGS), atol=2e-3
    )


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_constant_recording_has_features_of_0(value):
    features = code_features(np.full(16_000, value, np.float32), SETTINGS)
    assert features.shape == (32, 120)
    np.testing.assert_allclose(features, 0, atol=0.02)


@pytest.mark.parametrize(
    ("samples", "frames", "codes"),
    [(1, 1, 1), (400, 1, 1), (559, 1, 1), (560, 2, 1), (400 + 5 * 160, 6, 2), (16_000, 98, 32)],
)
def test_numbers_of_frames_and_codes(samples, frames, codes):
    recording = speech_like(1.0)[:samples]
    assert log_mel(recording, SETTINGS).shape == (frames, 40)
    features = code_features(recording, SETTINGS)
    assert features.shape == (codes, SETTINGS.width) == (codes, 120)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("samples", [500, 7_777, 11_200])
def test_code_has_its_own_frames_and_half_of_those_beside_it(every, samples):
    settings = dataclasses.replace(SETTINGS, hops_per_code=every)
    recording = speech_like()[:samples]
    frames = log_mel(recording, settings)

    def mean(code):
        indices = np.arange(code * every, (code + 1) * every).clip(0, len(frames) - 1)
        return frames[indices].mean(axis=0)

    expected = [
        np.concatenate([mean(t - 1) / 2, mean(t), mean(t + 1) / 2])
        for t in range(max(1, len(frames) // every))
    ]
    np.testing.assert_allclose(code_features(recording, settings), expected, atol=1e-6)
