"""Spoken intents: a corpus of spoken commands by synthetic voices, in the layout of FSC.

The voices of train, valid and test are different. Everything about an utterance depends only on
the seed, its split and its number, so that a preparation that was stopped continues where it was,
and a corpus can be made larger later.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, replace_text
from experiments.preparation import parallel, sentences, speech, vader, voices
from experiments.preparation.commands import WORDINGS
from experiments.preparation.voices import Voice

SMALLEST = len(WORDINGS)  # With fewer training utterances, an intent would be missing.
_SPLITS = ("train", "valid", "test", "pretrain")  # The order is part of the seeds.
_CORPUS = "corpus.json"
_SENTENCES = "sentences.txt"
_HEADER = ("", "path", "speakerId", "transcription", "action", "object", "location")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The numbers of utterances; `pretrain` are those without an intent."""

    train: int = 10_000
    valid: int = 1_000
    test: int = 1_500
    pretrain: int = 6_000


@dataclasses.dataclass(frozen=True)
class _Utterance:
    path: str
    voice: Voice
    text: str
    intent: Sequence[str]
    key: Sequence[int]  # The seed of its random generator.


def prepare(data_dir: Path, sizes: Sizes, seed: int, options: speech.Options) -> None:
    """Makes the corpus: recordings, CSV files and codes.

    The sentences without intents are the lines of sentences.txt. If there is no such file, it is
    made from the source archive of vaderSentiment.

    Args:
      data_dir: the folder to write to.
      sizes: numbers of utterances.
      seed: of the voices, the sentences and the noise.
      options: what the codes are.

    Raises:
      InputError: there are fewer training utterances than intents, a program is missing, the folder
        has the corpus of another seed, it cannot be written, or the sentences could not be
        downloaded.
    """
    if sizes.train < SMALLEST:
        raise InputError(
            f"--train: expected at least {SMALLEST} training utterances, one for each intent, got"
            f" {sizes.train}"
        )
    voices.check_programs()
    _check_seed(data_dir, seed)
    spoken = voices.choose(seed)
    splits = {
        "train": _commands("train", sizes.train, seed, spoken["train"]),
        "valid": _commands("valid", sizes.valid, seed, spoken["valid"]),
        "test": _commands("test", sizes.test, seed, spoken["test"]),
    }
    if sizes.pretrain:
        texts = _sentences(data_dir)
        splits["pretrain"] = _without_intent(texts, sizes.pretrain, seed, spoken["train"])
    try:
        for name, utterances in splits.items():
            _speak(data_dir, utterances, name)
            _write_csv(data_dir, name, utterances)
        flite = [utterance for utterance in splits["test"] if utterance.voice.program == "flite"]
        if flite:
            _write_csv(data_dir, "test_flite", flite)
    except OSError as error:
        raise not_writable(data_dir, error) from None
    speech.prepare(data_dir, options)


def _check_seed(data_dir: Path, seed: int) -> None:
    existing = records.read(data_dir / _CORPUS)
    if existing is None:
        records.write(data_dir / _CORPUS, {"seed": seed})
    elif existing.get("seed") != seed:
        raise InputError(
            f"{data_dir}: expected the corpus of --seed={seed}, got that of"
            f" --seed={existing.get('seed')}; choose another folder"
        )


def _sentences(data_dir: Path) -> list[str]:
    """Returns the lines of sentences.txt; makes the file if it does not exist."""
    path = data_dir / _SENTENCES
    if not path.exists():
        commands = [wording for wordings in WORDINGS.values() for wording in wordings]
        texts = sentences.collect(vader.ARCHIVE.download(), commands)
        replace_text(path, "\n".join(texts) + "\n")
    texts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not texts:
        raise InputError(f"{path}: expected a sentence per line, got none; delete the file")
    return texts


def _commands(split: str, size: int, seed: int, speakers: Sequence[Voice]) -> list[_Utterance]:
    """Returns commands; each 31 of them have all intents, in a random order."""
    intents = sorted(WORDINGS)

    def draw(random: np.random.RandomState, number: int) -> tuple[str, Sequence[str]]:
        cycle, place = divmod(number, len(intents))
        order = np.random.RandomState([seed, _SPLITS.index(split), cycle]).permutation(len(intents))
        intent = intents[order[place]]
        return WORDINGS[intent][random.randint(len(WORDINGS[intent]))], intent

    return list(_utterances(split, size, seed, speakers, draw))


def _without_intent(
    texts: Sequence[str], size: int, seed: int, speakers: Sequence[Voice]
) -> list[_Utterance]:
    """Returns the texts in their order, and again from the first one if they are too few."""
    return list(
        _utterances(
            "pretrain",
            size,
            seed,
            speakers,
            lambda random, number: (texts[number % len(texts)], ("", "", "")),
        )
    )


def _utterances(
    split: str,
    size: int,
    seed: int,
    speakers: Sequence[Voice],
    draw: Callable[[np.random.RandomState, int], tuple[str, Sequence[str]]],
) -> Iterator[_Utterance]:
    for number in range(size):
        key = (seed, _SPLITS.index(split), number)
        random = np.random.RandomState(key)
        text, intent = draw(random, number)
        voice = speakers[random.randint(len(speakers))]
        path = f"wavs/speakers/{voice.speaker}/{split}_{number}.wav"
        yield _Utterance(path, voice, text, intent, key)


def _speak(data_dir: Path, utterances: Sequence[_Utterance], split: str) -> None:
    """Writes the recordings that do not exist yet."""
    missing = [utterance for utterance in utterances if not (data_dir / utterance.path).exists()]

    def write(utterance: _Utterance) -> None:
        path = data_dir / utterance.path
        # Another stream than that of the text and the voice.
        random = np.random.RandomState([*utterance.key, 1])
        content = voices.speak(utterance.text, utterance.voice, random)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(path)

    for _ in parallel.run(write, missing, f"{split}: {len(missing):,} utterances"):
        pass


def _write_csv(data_dir: Path, name: str, utterances: Sequence[_Utterance]) -> None:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(_HEADER)
    for number, utterance in enumerate(utterances):
        writer.writerow(
            (number, utterance.path, utterance.voice.speaker, utterance.text, *utterance.intent)
        )
    replace_text(data_dir / f"{name}_data.csv", content.getvalue())
