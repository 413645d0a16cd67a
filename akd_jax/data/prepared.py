"""Data sets that tensorflow-datasets prepared as array_record, read without TensorFlow."""

from typing import Any

from akd_jax.errors import InputError
from akd_jax.files import Path, local_copy


def find(name: str, data_dir: Path, remedy: str) -> Any:
    """The builder of a data set that is prepared in a folder.

    Args:
      name: of the data set, such as 'cifar10' or 'glue/rte'.
      data_dir: holds NAME/VERSION/.
      remedy: what to do where it is not there, for the message.

    Raises:
      InputError: it is not there, or in another format.
    """
    import tensorflow_datasets as tfds  # Takes seconds, and few need it.

    try:
        folder = local_copy(data_dir, (name,))  # array_record reads files of this machine.
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    except ValueError:  # It is there in another format.
        builder = None
    if builder is None or not builder.is_prepared():  # Else it tries the network for minutes.
        raise InputError(
            f"config.dataset.data_dir: expected {name} prepared as array_record in"
            f" {data_dir / name}, got none; {remedy}"
        )
    return builder


def records(builder: Any, split: str, order: str) -> list[dict[str, Any]]:
    """The records of a split in the order of a field; on disk they are shuffled by a hash."""
    source = builder.as_data_source(split)
    return sorted((source[i] for i in range(len(source))), key=lambda record: record[order])
