"""Translation from English into Spanish by apertium, a rule-based system."""

import shutil
import subprocess
from collections.abc import Callable, Sequence

from akd_jax.host import interrupts
from akd_jax.host.errors import InputError
from experiments.preparation import parallel

_PAIR = "eng-spa"
_INSTALL = "apt-get install apertium apertium-eng-spa"
_CHUNK = 250  # Texts that one process translates; it needs 0.2 s to start.
_SAVED_CHUNKS = 16  # Chunks after which the translations are saved.


def check_program() -> None:
    """Raises InputError if apertium, or its translation from English into Spanish, is missing."""
    if shutil.which("apertium") is None:
        raise InputError(f"expected the program apertium, got none; install it with: {_INSTALL}")
    pairs = _run("", "-l").split()
    if _PAIR not in pairs:
        raise InputError(
            f"expected apertium to translate {_PAIR}, got {', '.join(pairs) or 'nothing'}; install"
            f" it with: {_INSTALL}"
        )


def translate_missing(
    texts: Sequence[str], translations: dict[str, str], save: Callable[[], None]
) -> None:
    """Translates the texts that have no translation yet, with all cores.

    Args:
      texts: the texts in English, without line breaks.
      translations: maps texts to their translations; it is extended.
      save: saves the translations; called after each 4,000 texts, at the end, and at a stop.

    Raises:
      InputError: apertium fails.
      StoppedError: a stop was requested.
    """
    missing = [text for text in texts if text not in translations]
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
    label = f"translation of {len(missing):,} texts"
    results = parallel.run(translate, chunks, label)
    try:
        for number, (chunk, result) in enumerate(zip(chunks, results, strict=True), start=1):
            translations.update(zip(chunk, result, strict=True))
            if number % _SAVED_CHUNKS == 0:
                save()
    except InputError:
        # A request to stop can also end apertium, because it goes to a whole group of processes.
        interrupts.raise_if_stop_requested(label)
        raise
    finally:
        if missing and translations:
            save()


def translate(texts: Sequence[str]) -> list[str]:
    """Returns the translations of texts, each without line breaks.

    Words that apertium does not know stay as they are.

    Raises:
      InputError: apertium fails.
    """
    # Between blank lines, texts do not influence each other.
    output = _run("\n\n".join(texts) + "\n\n", "-u", _PAIR)
    parts = [" ".join(part.split()) for part in output.strip("\n").split("\n\n")]
    if len(parts) == len(texts):
        return parts
    if len(texts) == 1:
        return [" ".join(output.split())]
    middle = len(texts) // 2  # A translation is empty or has a blank line itself.
    return [*translate(texts[:middle]), *translate(texts[middle:])]


def _run(text: str, *arguments: str) -> str:
    """Returns what apertium writes to its standard output."""
    process = subprocess.run(
        ["apertium", *arguments], input=text, capture_output=True, check=False, encoding="utf-8"
    )
    if process.returncode:
        reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
        raise InputError(
            f"apertium: expected translations, got: {reason} (arguments {' '.join(arguments)!r});"
            " check the installation of the program"
        )
    return process.stdout
