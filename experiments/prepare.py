"""Prepares a data set: downloads its files and checks them, or makes them.

python -m experiments.prepare --dataset=cifar10 --data_dir=DIR

If TensorFlow is installed, tensorflow-datasets prepares CIFAR-10 and CIFAR-100; otherwise their
official binary archives are downloaded. The movie reviews are built from the ratings in the source
archive of the PyPI package vaderSentiment 0.5. Files that already exist are only checked.

speech_commands_csv is a folder in the layout of Fluent Speech Commands: train_data.csv,
valid_data.csv and test_data.csv, in it or in its folder data/, with the columns path, speakerId,
transcription, action, object and location; and the recordings, WAV or FLAC, at these paths in the
folder. pretrain_data.csv holds utterances without an intent, and test_NAME_data.csv an additional
test split. The recordings become codes in codes.tsv, by the codebook in codebook.npz, which is made
if there is none. A codes.tsv of vq-wav2vec, with the columns path and codes, is used as it is.

spoken_intents is such a folder with 31 intents, which the programs espeak-ng, flite and sox make.
The same command continues a preparation that was stopped.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping

from absl import flags

from akd_jax import data
from akd_jax.data import Source
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, lock, not_writable
from experiments import cli, options
from experiments.preparation import images, movie_reviews, speech, spoken_intents

_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Data set: 'cifar10', 'cifar100', 'fashion_mnist', 'movie_reviews', 'speech_commands_csv' or"
    " 'spoken_intents'.",
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
_TRAIN, _VALID, _TEST, _PRETRAIN = (
    flags.DEFINE_integer(
        name,
        getattr(spoken_intents.Sizes, name),
        f"spoken_intents: number of {description}.",
        lower_bound=lower_bound,
    )
    for name, description, lower_bound in (
        ("train", "training utterances", spoken_intents.SMALLEST),
        ("valid", "validation utterances", 1),
        ("test", "test utterances", 1),
        ("pretrain", "utterances without an intent", 0),
    )
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "spoken_intents: seed of voices, texts and noise.", lower_bound=0
)

# Downloads that are skipped if the reader of the data set finds all files.
_DOWNLOADS: Mapping[str, Callable[[Path], None]] = {
    "cifar10": functools.partial(images.prepare_cifar, "cifar10"),
    "cifar100": functools.partial(images.prepare_cifar, "cifar100"),
    "fashion_mnist": images.prepare_fashion_mnist,
    "movie_reviews": movie_reviews.prepare,
}
# The settings of speech without flags.
_OPTIONS, _SIZES = speech.Options(), spoken_intents.Sizes()


def prepare_dataset(
    dataset: str,
    data_dir: Path,
    *,
    speech_options: speech.Options = _OPTIONS,
    sizes: spoken_intents.Sizes = _SIZES,
    seed: int = 0,
) -> str:
    """Prepares a data set in a folder; returns a line that describes the result.

    Args:
      dataset: the name of the data set.
      data_dir: its folder.
      speech_options: what the codes of recordings are.
      sizes: the numbers of utterances of 'spoken_intents'.
      seed: the seed of 'spoken_intents'.

    Raises:
      InputError: the data set is unknown, or could not be downloaded or made. The message names
        the file to download by hand and the folder to put it into, or what else to do.
    """
    makers: Mapping[str, Callable[[], None]] = {
        "speech_commands_csv": lambda: speech.prepare(data_dir, speech_options),
        "spoken_intents": lambda: spoken_intents.prepare(data_dir, sizes, seed, speech_options),
    }
    if dataset not in {**_DOWNLOADS, **makers}:
        raise InputError(
            f"--dataset: expected one of {', '.join([*_DOWNLOADS, *makers])}, got {dataset!r};"
            " digits need no preparation"
        )
    records.check_writable(data_dir)
    if dataset in makers:
        with _locked(data_dir):
            makers[dataset]()
        source = data.DATASETS[dataset](data_dir)
    else:
        source = _read_or_download(dataset, data_dir)
    line = (
        f"{dataset} is ready in {data_dir}: {len(source.train):,} training and"
        f" {len(source.test):,} test examples"
    )
    return f"{line}; {speech.describe(data_dir)}" if dataset in makers else line


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
    line = prepare_dataset(
        _DATASET.value or "",
        options.path(_DATA_DIR),
        speech_options=speech.Options(_CODES.value, _HOPS_PER_CODE.value),
        sizes=spoken_intents.Sizes(_TRAIN.value, _VALID.value, _TEST.value, _PRETRAIN.value),
        seed=_SEED.value,
    )
    print(line)


if __name__ == "__main__":
    cli.launch(main, required=["dataset", "data_dir"])
