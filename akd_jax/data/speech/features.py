"""Log-mel features of speech, in NumPy."""

import dataclasses
import functools

import numpy as np

_FLOOR = 1e-6  # Added to the power of a band, so that digital silence has a logarithm.
_SMALLEST_DEVIATION = 1e-3  # Of a recording whose bands never change, such as silence.


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """The settings of the features.

    Attributes:
      sample_rate: samples per second of a recording, in Hz.
      window: length of a window, in samples.
      hop: samples from one window to the next.
      fft: length of the Fourier transform, in samples, at least `window`.
      bands: number of mel bands.
      lowest: lower edge of the first band, in Hz.
      highest: upper edge of the last band, in Hz, at most half of the sample rate.
      hops_per_code: number of hops that one code stands for.
    """

    sample_rate: int = 16_000
    window: int = 400
    hop: int = 160
    fft: int = 512
    bands: int = 40
    lowest: float = 60.0
    highest: float = 7_600.0
    hops_per_code: int = 3

    @property
    def width(self) -> int:
        """D, the number of features of a code."""
        return 3 * self.bands


@functools.lru_cache(maxsize=4)
def mel_filters(settings: FeatureSettings) -> np.ndarray:
    """Returns the triangular filters of the mel bands, float32 [bands, fft / 2 + 1].

    The edges are evenly spaced on the scale mel(f) = 2595 log10(1 + f / 700) of O'Shaughnessy,
    "Speech Communication: Human and Machine", 1987. Filter b rises from 0 at edge b to 1 at edge
    b + 1, and falls to 0 at edge b + 2.
    """
    lowest, highest = (2595 * np.log10(1 + f / 700) for f in (settings.lowest, settings.highest))
    edges = 700 * (10 ** (np.linspace(lowest, highest, settings.bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(settings.fft, 1 / settings.sample_rate)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(samples: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Returns the logarithm of the power in each mel band, float32 [F, bands].

    Window f covers the samples from f * hop on, is multiplied by a Hann window, and has the
    spectrum X_f. The bands are x[f, b] = log(sum_k filter[b, k] |X_f[k]|^2 + 1e-6). The mean of
    each band over the recording is subtracted from x, and the result is divided by its standard
    deviation, so that loudness and the frequency response of a microphone matter little.

    Args:
      samples: the recording, float32 [N] from -1 to 1. A recording shorter than a window is padded
        with zeros.
      settings: the settings.

    Returns:
      F = 1 + (N - window) // hop frames.
    """
    samples = np.pad(samples, (0, max(0, settings.window - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(samples, settings.window)[:: settings.hop]
    hann = np.hanning(settings.window).astype(np.float32)
    power = np.abs(np.fft.rfft(windows * hann, settings.fft)) ** 2
    # In float64, so that the mean of equal numbers is that number.
    bands = np.log((power @ mel_filters(settings).T).astype(np.float64) + _FLOOR)
    bands -= bands.mean(axis=0)
    return (bands / max(bands.std(), _SMALLEST_DEVIATION)).astype(np.float32)


def code_features(samples: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Returns the features that become the codes of a recording, float32 [T, D].

    The F frames of `log_mel` are averaged over `hops_per_code` frames each, T = F // hops_per_code
    and at least 1. A code has the features (m[t-1] / 2, m[t], m[t+1] / 2) of its own mean m[t] and
    the means beside it. The first and the last frame are repeated beyond the ends.

    Args:
      samples: the recording, float32 [N] from -1 to 1.
      settings: the settings.
    """
    frames, every = log_mel(samples, settings), settings.hops_per_code
    count = max(1, len(frames) // every)
    padded = np.pad(frames, ((every, 2 * every), (0, 0)), mode="edge")[: (count + 2) * every]
    means = padded.reshape(count + 2, every, -1).mean(axis=1)
    return np.concatenate([means[:-2] / 2, means[1:-1], means[2:] / 2], axis=1)
