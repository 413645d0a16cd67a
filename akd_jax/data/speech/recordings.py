"""Recordings in WAV or FLAC files."""

import dataclasses
import io
import math

import numpy as np

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, reason

EXTRA = "speech"  # The extra of akd_jax with the packages that recordings need.


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording.

    Attributes:
      samples: float32 [N], from -1 to 1.
      original_rate: the sample rate of the file, in Hz; `samples` have the rate that was asked for.
    """

    samples: np.ndarray
    original_rate: int


def read(path: Path, sample_rate: int) -> Recording:
    """Reads a recording. Several channels are averaged, and other sample rates are resampled.

    Args:
      path: a file of a format that libsndfile reads, such as WAV and FLAC.
      sample_rate: the sample rate of the result, in Hz.

    Raises:
      InputError: the file is missing or holds no audio, the recording is empty or has a value that
        is not finite, or a package is not installed.
    """
    soundfile = require("soundfile", EXTRA)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: expected a recording, got no file; add it, or remove its line"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: expected a recording that can be read, got: {reason(error)}"
        ) from None
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError:
        got = f"{len(content):,} bytes of something else" if content else "an empty file"
        raise InputError(
            f"{path}: expected audio such as WAV or FLAC, got {got}; record or fetch it again"
        ) from None
    if not len(samples):
        raise InputError(f"{path}: expected a recording, got no samples; record or fetch it again")
    if not np.isfinite(samples).all():
        raise InputError(
            f"{path}: expected finite samples, got NaN or infinity; record or fetch it again"
        )
    return Recording(resample(samples.mean(axis=1), rate, sample_rate), rate)


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Returns a recording at another sample rate, float32 [ceil(N * new_rate / rate)].

    The rate is changed by the reduced fraction new_rate / rate, with a low-pass filter of its
    polyphase components.

    Args:
      samples: float32 [N].
      rate: the sample rate of `samples`, in Hz.
      new_rate: the sample rate of the result, in Hz.
    """
    if rate == new_rate:
        return samples
    divisor = math.gcd(rate, new_rate)
    signal = require("scipy.signal", EXTRA)
    return signal.resample_poly(samples, new_rate // divisor, rate // divisor).astype(np.float32)
