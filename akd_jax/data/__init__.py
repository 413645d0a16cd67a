"""Data sets and their batches."""

import functools
from collections.abc import Callable, Mapping

from akd_jax.data.batches import Batches
from akd_jax.data.dataset import (
    UNLABELLED_SPLIT,
    Dataset,
    Examples,
    Normalise,
    Source,
    hold_out,
)
from akd_jax.data.readers import (
    cifar,
    digits,
    domains,
    glue,
    idx,
    language_names,
    parallel,
    quality,
    speech,
    streams,
    tsv,
)
from akd_jax.data.settings import DatasetConfig
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, readable_path

__all__ = [
    "DATASETS",
    "Batches",
    "Dataset",
    "Examples",
    "Normalise",
    "Source",
    "load",
]

# Maps the name of a data set to its reader. A reader takes the data folder, or None for the
# default folder.
DATASETS: Mapping[str, Callable[[Path | None], Source]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "digits": digits.load,
    "domains": domains.load,
    "fashion_mnist": idx.load_fashion_mnist,
    "idx": idx.load,
    "language_id": tsv.load,
    "language_names": language_names.load,
    "movie_reviews": tsv.load_movie_reviews,
    "sentiment_domains": domains.load_sentiment,
    "speech_commands_csv": speech.load,
    "spoken_intents": speech.load,
    "stream": streams.load,
    "tsv": tsv.load,
    **glue.LOADERS,
    **parallel.LOADERS,
    **quality.DEFAULT_LOADERS,
}
# The readers that also take the options of the data set.
_WITH_OPTIONS: Mapping[str, Callable[..., Source]] = {
    **parallel.LOADERS,
    **quality.LOADERS,
    "stream": streams.load,
}


@functools.lru_cache(maxsize=2)
def load(config: DatasetConfig) -> Dataset:
    """Reads a data set and holds out its validation split. The last two data sets are cached.

    Raises:
      InputError: the name is unknown, the files are missing or damaged, the data set is smaller
        than the requested splits, or a package that its reader needs is not installed.
    """
    if config.name not in DATASETS:
        raise InputError(
            f"config.dataset.name: expected one of {', '.join(DATASETS)}, got {config.name!r};"
            " correct it"
        )
    folder = readable_path("config.dataset.data_dir", config.data_dir) if config.data_dir else None
    if config.name in _WITH_OPTIONS:
        source = _WITH_OPTIONS[config.name](folder, config)
    else:
        source = DATASETS[config.name](folder)
    dataset = hold_out(
        source,
        validation_size=config.validation_size,
        train_size=config.train_size,
        train_fraction=config.train_fraction,
        reward_size=config.reward_size,
        seed=config.seed,
    )
    # The examples without labels of a generation are pairs, whose targets must not be read.
    unlabelled = 0 if source.task.target else len(dataset.splits.get(UNLABELLED_SPLIT, ()))
    if config.unlabelled_size > unlabelled:
        raise InputError(
            f"config.dataset.unlabelled_size: expected at most {unlabelled}, the number of"
            f" unlabelled examples of {config.name}, got {config.unlabelled_size}; reduce it"
        )
    return dataset
