"""Synthetic speakers: voices of espeak-ng and flite, and the utterances that they speak."""

import dataclasses
import io
import random
import re
import shutil
import subprocess
import wave
from collections.abc import Mapping, Sequence

import numpy as np

from akd_jax.host.errors import InputError

SAMPLE_RATE = 16_000
_PROGRAMS = ("espeak-ng", "flite", "sox")
_ACCENTS = (
    "en-029",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)
# The variants of espeak-ng 1.51 that sound like people, not like robots. None is nearly equal to
# another, such as iven2 to iven, so that the voices of the splits differ.
_NAMES = """
adam Alex Alicia Andrea Andy anika Annie antonio aunty belinda benjamin boris caleb david Denis
Diogo ed edward f1 f2 f3 f4 f5 Gene grandma grandpa gustave Henrique Hugo iven Jacky john klatt
Lee linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo Marco Mario max Michael michel miguel Mike Nguyen
norbert pablo paul pedro quincy rob robert sandro shelby steph Storm travis victor zac
"""
_VARIANTS = tuple(_NAMES.split())
_SIZES = {"train": 40, "valid": 10, "test": 16}  # Numbers of espeak-ng's variants.
# Voices of flite, which were made from recordings of people.
_FLITE = {"train": ("kal16", "awb"), "valid": (), "test": ("rms", "slt")}

# sox scales the peak to this level, in decibels, which leaves room for the noise; removes what is
# quieter than a share of full scale at both ends; and adds silence there, in seconds.
_PEAK, _QUIET, _SILENCE = "-6", "0.5%", "0.05"
_SIGNAL_TO_NOISE = (15.0, 35.0)  # In decibels.


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
      program: 'espeak-ng' or 'flite'.
      name: the name of the voice; ACCENT+VARIANT for espeak-ng.
      pitch: the usual pitch of an espeak-ng voice, from 0 to 99.
      rate: the usual rate of an espeak-ng voice, in words per minute.
    """

    program: str
    name: str
    pitch: int = 50
    rate: int = 165

    @property
    def speaker(self) -> str:
        """A name that is also the name of a folder."""
        return f"{self.program}_{self.name}".replace("+", "_")


def choose(seed: int) -> Mapping[str, Sequence[Voice]]:
    """Returns the voices of each split, 42 of train, 10 of valid and 18 of test.

    Each variant of espeak-ng gets an accent, a pitch and a rate, and is in one split only.
    """
    rng = random.Random(seed)
    variants = list(_VARIANTS)
    rng.shuffle(variants)
    voices = {}
    for split, size in _SIZES.items():
        chosen, variants = variants[:size], variants[size:]
        voices[split] = [
            Voice(
                "espeak-ng",
                f"{rng.choice(_ACCENTS)}+{variant}",
                pitch=rng.randint(30, 70),
                rate=rng.randint(135, 195),
            )
            for variant in chosen
        ] + [Voice("flite", name) for name in _FLITE[split]]
    return voices


def check_programs() -> None:
    """Checks that the programs exist and have the voices.

    Raises:
      InputError: a program or a voice is missing.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"expected the programs {', '.join(_PROGRAMS)}, got no {', '.join(missing)}; install"
            f" them with: apt-get install {' '.join(_PROGRAMS)}"
        )
    # espeak-ng uses its plain voice without a word if it does not know a variant.
    known = {
        "espeak-ng variants": set(
            re.findall(r"!v/(\S+)", _output("espeak-ng", "--voices=variant"))
        ),
        "espeak-ng accents": set(_output("espeak-ng", "--voices=en").lower().split()),
        "flite voices": set(_output("flite", "-lv").split()),
    }
    wanted = {
        "espeak-ng variants": set(_VARIANTS),
        "espeak-ng accents": set(_ACCENTS),
        "flite voices": {name for names in _FLITE.values() for name in names},
    }
    for kind, names in wanted.items():
        unknown = sorted(names - known[kind])
        if unknown:
            raise InputError(
                f"expected the {kind} {', '.join(sorted(names))}, got no {', '.join(unknown)};"
                " install espeak-ng 1.51 and flite 2.2, or later versions"
            )


def speak(text: str, voice: Voice, random: np.random.RandomState) -> bytes:
    """Returns an utterance as a WAV file of 16 kHz and 16 bits.

    The pitch and the rate of every utterance differ a little from those of the voice. sox
    resamples the speech and removes the silence at its ends. Then noise is added.

    Args:
      text: what to say.
      voice: who says it.
      random: draws pitch, rate and noise.

    Raises:
      InputError: a program fails.
    """
    if voice.program == "espeak-ng":
        pitch = voice.pitch + random.randint(-8, 9)
        rate = voice.rate + random.randint(-15, 16)
        spoken = _run("espeak-ng", "-v", voice.name, f"-p{pitch}", f"-s{rate}", "--stdout", text)
    else:
        stretch = f"duration_stretch={random.uniform(0.85, 1.2):.2f}"
        spoken = _run(
            "flite", "-voice", voice.name, "--setf", stretch, "-t", text, "-o", "/dev/stdout"
        )
    trim = ("silence", "1", "0.01", _QUIET, "reverse")
    raw = _run(
        # -D: without random numbers. The length in the header of a piped WAV file is wrong.
        *("sox", "-V1", "-D", "--ignore-length", "-t", "wav", "-"),
        *("-t", "raw", "-e", "signed", "-b", "16", "-L", "-c", "1", "-"),
        *("norm", _PEAK, "rate", str(SAMPLE_RATE), *trim, *trim, "pad", _SILENCE, _SILENCE),
        stdin=spoken,
    )
    speech = np.frombuffer(raw, "<i2").astype(np.float32) / 32_768
    noisy = _add_noise(speech, random)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(noisy, -1, 1) * 32_767).astype("<i2").tobytes())
    return content.getvalue()


def _add_noise(speech: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Adds low-pass noise at a random ratio of the mean powers of speech and noise."""
    decibels = random.uniform(*_SIGNAL_TO_NOISE)
    # A moving average over 4 samples, with a variance of 1.
    noise = np.convolve(random.standard_normal(len(speech)), np.full(4, 0.5), "same")
    amplitude = np.sqrt(np.mean(speech**2)) * 10 ** (-decibels / 20)
    return speech + amplitude * noise


def _run(*command: str, stdin: bytes = b"") -> bytes:
    """Returns what a program writes to its standard output."""
    process = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if process.returncode or not process.stdout:
        reason = (process.stderr.decode(errors="replace").strip() or "no output").splitlines()[-1]
        raise InputError(
            f"{command[0]}: expected speech, got: {reason} (command {' '.join(command)!r}); check"
            " the installation of the program"
        )
    return process.stdout


def _output(*command: str) -> str:
    return _run(*command).decode()
