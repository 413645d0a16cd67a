"""Reader of data sets that tensorflow-datasets prepared as array_record, without TensorFlow."""

import pathlib
from typing import Any

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, local_copy


def default_dir() -> pathlib.Path:
    """Returns the default data folder of tensorflow-datasets."""
    return pathlib.Path.home() / "tensorflow_datasets"


def find(name: str, data_dir: Path, remedy: str) -> Any:
    """Returns the tensorflow-datasets builder of a prepared data set.

    Args:
      name: name of the data set, such as 'cifar10' or 'glue/rte'.
      data_dir: folder that contains NAME/VERSION/.
      remedy: end of the error message, which states what to do if the data set is missing.

    Raises:
      InputError: the data set is missing or has another format, or tensorflow-datasets is not
        installed.
    """
    tfds = require("tensorflow_datasets", "images")
    require("array_record", "images")  # tensorflow-datasets imports it only when it reads.
    try:
        # array_record reads only local files.
        folder = local_copy(data_dir, (name,))
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    except ValueError:  # The data set was prepared in another format.
        builder = None
    # Reading from a builder that is not prepared would try to download for minutes.
    if builder is None or not builder.is_prepared():
        raise InputError(
            f"config.dataset.data_dir: expected {name} prepared as array_record in"
            f" {data_dir / name}, got none; {remedy}"
        )
    return builder


def records(builder: Any, split: str, order: str) -> list[dict[str, Any]]:
    """Returns the records of a split, sorted by the field `order`; on disk they are shuffled."""
    source = builder.as_data_source(split)
    return sorted((source[i] for i in range(len(source))), key=lambda record: record[order])
