"""Small recordings, and a folder of spoken commands in the layout of Fluent Speech Commands."""

import csv
import wave

import numpy as np

HEADER = ("", "path", "speakerId", "transcription", "action", "object", "location")
LAMP = ("turn on the lamp", "activate", "lamp", "none")
JUICE = ("get me some juice", "bring", "juice", "none")


def tone(frequency, seconds=0.3, rate=16_000, seed=0):
    """A sine in noise that starts after a third of its time, float [N]."""
    time = np.arange(round(seconds * rate)) / rate
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(time))
    return noise + np.where(time < seconds / 3, 0, 0.5 * np.sin(2 * np.pi * frequency * time))


def write_wav(path, samples, rate=16_000):
    """Writes float samples [N] or [N, channels] as a WAV file of 16 bits, with Python's library."""
    samples = np.asarray(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32_767).astype("<i2").tobytes())


def write_csv(path, rows):
    """Writes rows of a path, a transcription, an action, an object and a location."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(
            (number, recording, "speaker", *rest) for number, (recording, *rest) in enumerate(rows)
        )


def write_commands(folder, *, subfolder="", **changes):
    """Writes CSV files with two intents: six training rows, and two of each other split.

    Args:
      folder: the folder of the data set.
      subfolder: the folder inside it for the CSV files.
      **changes: rows that replace those of a split, or add a split.

    Returns:
      The paths of all recordings.
    """
    splits = {
        name: [(f"wavs/{name}_{number}.wav", *(JUICE, LAMP)[number % 2]) for number in range(size)]
        for name, size in (("train", 6), ("valid", 2), ("test", 2))
    }
    splits |= changes
    for name, rows in splits.items():
        write_csv(folder / subfolder / f"{name}_data.csv", rows)
    return [row[0] for rows in splits.values() for row in rows]


def write_recordings(folder, paths):
    """Writes a different tone for each path, in 16 kHz."""
    for number, path in enumerate(paths):
        samples = tone(200 * 1.2 ** (number % 16), seconds=0.3 + 0.02 * (number % 5), seed=number)
        write_wav(folder / path, samples)
