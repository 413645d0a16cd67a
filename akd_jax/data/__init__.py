"""Data sets, by name."""

from collections.abc import Callable, Mapping

from akd_jax.config import DatasetConfig
from akd_jax.data import digits
from akd_jax.data.batches import Batches
from akd_jax.data.dataset import Dataset, Examples
from akd_jax.errors import InputError

__all__ = ["DATASETS", "Batches", "Dataset", "Examples", "load"]

DATASETS: Mapping[str, Callable[[], Dataset]] = {
    "digits": digits.load,
}


def load(config: DatasetConfig) -> Dataset:
    """Reads the data set.

    Raises:
      InputError: its name is unknown.
    """
    if config.name not in DATASETS:
        raise InputError(
            f"config.dataset.name: expected one of {', '.join(DATASETS)}, got {config.name!r}"
        )
    return DATASETS[config.name]()
