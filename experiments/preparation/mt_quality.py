"""A corpus for the estimation of translation quality: texts of programs, translated by apertium.

The texts are English, from the catalogs of Debian packages, and apertium translates them into
Spanish. The score of a translation is its similarity to the translation by people in the catalog.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from akd_jax.data.readers import quality, tsv
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, not_writable, replace_text
from experiments.preparation import apertium, catalogs, debian, scored_pairs, tokenizers
from experiments.preparation.catalogs import Pair

_TEXTS, _SCORE = ("source", "target"), "score"  # The columns of the files.
# Packages of Debian 12 with many Spanish texts for their size. Together they are 170 MB large.
_NAMES = """
amule-common audacity-data binutils-common cinnamon-l10n claws-mail-i18n darktable digikam-data
evolution-common filezilla-common freeciv-data gcc-12-locales gimp-data git gnome-commander-data
gnucash-common gnumeric-common gnupg-l10n gramps gsettings-desktop-schemas inkscape k3b-i18n kig
kleopatra krita-l10n ktorrent-data libc-l10n libglib2.0-data libgtk-3-common libreoffice-l10n-es
libvirt-l10n neomutt pidgin-data rkward-data util-linux-locales vlc-l10n
"""
PACKAGES = debian.Packages(
    names=_NAMES.split(),
    files=[catalogs.FILES],
    remedy="give a folder with Spanish catalogs of gettext, such as --catalogs=/usr/share/locale",
)
_CATALOGS = "catalogs"
_TRANSLATIONS = "translations.tsv"
_README = "README.txt"
_ABOUT = """\
English texts of programs (source), translated into Spanish by apertium (target). The score is the
sentence chrF of a translation, divided by 100, against the translation by people in the program's
catalog: from 0 to 1, where 1 is best. test.tsv, dev.tsv, train.tsv and unlabelled.tsv follow each
other in one random order, and no two sources are equal up to case, digits and punctuation.

The texts are parts of programs, and have their licences, such as the GPL, the LGPL and the MPL.
Read them before you pass the files on. Those of most Debian packages are in the files copyright
below the folder catalogs; the others are on https://packages.debian.org.

Catalogs of
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the corpus is.

    Attributes:
      train: number of training pairs with a score.
      valid: number of validation pairs, in dev.tsv.
      test: number of test pairs.
      vocabulary_size: the largest number of tokens of each tokenizer.
      catalogs: folders with catalogs; with none, those of Debian packages are downloaded.
      packages: names of the Debian packages; with none, those of `PACKAGES`.
    """

    train: int = 6_000
    valid: int = 1_500
    test: int = 2_000
    vocabulary_size: int = tokenizers.VOCABULARY_SIZE
    catalogs: Sequence[Path] = ()
    packages: Sequence[str] = ()


def prepare(data_dir: Path, options: Options) -> str:
    """Makes the corpus and its tokenizers; describes them in a line.

    The pairs are in a fixed random order: first test, then dev and train, and the rest is in
    unlabelled.tsv. The translations are saved in translations.tsv, so that a preparation that was
    stopped continues where it was, and one with other sizes translates nothing again.

    Args:
      data_dir: the folder to write to.
      options: what the corpus is.

    Raises:
      InputError: a program or package is missing, the catalogs cannot be downloaded or have too few
        pairs, apertium fails, or the folder cannot be written.
    """
    data_dir = debian.require_local(data_dir)
    apertium.check_program()
    score = _sentence_chrf()
    require("tokenizers", "text")
    folders = _catalog_folders(data_dir, options)
    pairs = catalogs.read_pairs(catalogs.find(folders))
    _check_sizes(len(pairs), options)
    try:
        translations = _translate(data_dir, [pair.source for pair in pairs])
        pairs = [pair for pair in pairs if catalogs.has_words(translations[pair.source])]
        _check_sizes(len(pairs), options)
        _write_splits(data_dir, pairs, translations, options, score)
        replace_text(data_dir / _README, _ABOUT + "".join(f"{path}\n" for path in folders))
    except OSError as error:
        raise not_writable(data_dir, error) from None
    source = quality.load(data_dir, quality.PairOptions())
    return scored_pairs.prepare(source, options.vocabulary_size)


def _sentence_chrf() -> Callable[[str, str], float]:
    """Returns a function of a translation and its reference: chrF / 100, from 0 to 1.

    chrF is the F-score, with a weight of 2 for the recall, of n-grams of up to 6 characters.

    Source: Popović, 2015, https://aclanthology.org/W15-3049.
    """
    metric = require("sacrebleu", "text").CHRF()
    return lambda translation, reference: (
        metric.sentence_score(translation, [reference]).score / 100
    )


def _catalog_folders(data_dir: pathlib.Path, options: Options) -> list[pathlib.Path]:
    """Returns the given folders with catalogs, or those of packages that it downloads."""
    if options.catalogs and options.packages:
        raise InputError("expected --catalogs or --packages, got both; leave one out")
    if not options.catalogs:
        names = options.packages or PACKAGES.names
        given = bool(options.packages)  # A package that the user names must be there.
        packages = dataclasses.replace(PACKAGES, names=names, all_required=given)
        return sorted(debian.download(packages, data_dir / _CATALOGS).values())
    folders = [pathlib.Path(folder) for folder in options.catalogs]
    for folder in folders:
        if not catalogs.find([folder]):
            raise InputError(
                f"--catalogs: expected {catalogs.FILES} in the folder {folder} or its subfolders,"
                " got none; choose another folder, or leave out --catalogs to download Debian"
                f" packages such as {', '.join(PACKAGES.names[:3])}"
            )
    return folders


def _check_sizes(found: int, options: Options) -> None:
    wanted = options.test + options.valid + options.train
    if wanted > found:
        raise InputError(
            f"--test, --valid, --train: expected at most {found:,} pairs together, the number that"
            f" the catalogs have, got {wanted:,}; give smaller numbers, or more folders by"
            " --catalogs"
        )


def _translate(data_dir: pathlib.Path, texts: Sequence[str]) -> Mapping[str, str]:
    """Returns the translations of texts; those that translations.tsv has are not made again."""
    path = data_dir / _TRANSLATIONS
    translations: dict[str, str] = {}
    if path.exists():
        translations = {row[0]: row[1] for row in tsv.read(path, _TEXTS).rows.values()}
    apertium.translate_missing(
        texts, translations, lambda: _write(path, _TEXTS, translations.items())
    )
    return translations


def _write_splits(
    data_dir: pathlib.Path,
    pairs: Sequence[Pair],
    translations: Mapping[str, str],
    options: Options,
    score: Callable[[str, str], float],
) -> None:
    start = 0
    for name, size in (("test", options.test), ("dev", options.valid), ("train", options.train)):
        rows = []
        for pair in pairs[start : start + size]:
            translation = translations[pair.source]
            value = score(translation, pair.reference)
            rows.append((pair.source, translation, f"{value:.4f}"))
        _write(data_dir / f"{name}.tsv", (*_TEXTS, _SCORE), rows)
        start += size
    path = data_dir / "unlabelled.tsv"
    if pairs[start:]:
        _write(path, _TEXTS, [(pair.source, translations[pair.source]) for pair in pairs[start:]])
    else:
        path.unlink(missing_ok=True)


def _write(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    replace_text(path, "".join("\t".join(row) + "\n" for row in (header, *rows)))
