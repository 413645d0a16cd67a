"""A data set in memory, its splits, and the scale of its inputs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.errors import InputError
from akd_jax.types import Task


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one split.

    Attributes:
      inputs: an array [N, ...] or a tree of such arrays; texts are str [N, 1], or [N, 2] for
        pairs of them, until they are read as tokens.
      labels: class indices int32 [N], or the numbers of a regression float32 [N].
    """

    inputs: Any
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples at `indices`, in their order."""
        inputs = jax.tree.map(lambda array: array[indices], self.inputs)
        return Examples(inputs, self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Normalise:
    """Images [..., channels] to float32 (image - mean) / std, on the device.

    Attributes:
      mean: per channel, in the images' units (0 to 255 for bytes).
      std: per channel, in the same units.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: jax.Array) -> jax.Array:
        """The normalised images."""
        mean, std = jnp.float32(self.mean), jnp.float32(self.std)
        return (images.astype(jnp.float32) - mean) / std


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as it is published.

    Attributes:
      train: all training examples.
      test: the test split.
      task: what is to be predicted.
      normalise: the scale of the inputs; None for texts.
      validation: the validation split, where the data set has one of its own.
      others: further splits to test on, by name.
      columns: the texts' in files without labels.
    """

    train: Examples
    test: Examples
    task: Task
    normalise: Normalise | None
    validation: Examples | None = None
    others: Mapping[str, Examples] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set to train and to test on.

    Attributes:
      splits: 'train', 'validation', 'test', and further ones to test on.
      task: what is to be predicted.
      normalise: the scale of the inputs; None for texts, which each network reads with its
        own vocabulary.
      columns: the texts' in files without labels.
      example: the inputs of one example, with the leading axis of a batch: their shapes.
      buckets: the lengths that batches of texts are filled up to; none elsewhere.
    """

    splits: Mapping[str, Examples]
    task: Task
    normalise: Normalise | None
    example: Any
    columns: tuple[str, ...] = ()
    buckets: tuple[int, ...] = ()

    @property
    def texts(self) -> bool:
        """Whether the inputs are texts."""
        return self.normalise is None


def split(examples: Examples, sizes: Mapping[str, int], seed: int) -> dict[str, Examples]:
    """Cuts examples at random into splits of the given sizes, the same ones for a seed forever.

    Args:
      examples: all of them.
      sizes: split name to its number of examples; examples beyond their sum are left out.
      seed: of NumPy's frozen generator (RandomState), whose stream no release changes.
    """
    order = np.random.RandomState(seed).permutation(len(examples))
    parts = np.split(order, np.cumsum(list(sizes.values())))
    return {name: examples.take(part) for name, part in zip(sizes, parts, strict=False)}


def hold_out(source: Source, *, validation_size: int, train_size: int, seed: int) -> Dataset:
    """Holds a validation split out of a source's training examples.

    Args:
      source: what is split.
      validation_size: examples of the validation split; 0 for the source's own.
      train_size: examples of the training split; 0 for all that are left.
      seed: of the split.

    Raises:
      InputError: there are not as many examples; or the source has no validation split of
        its own, or has one that would be left out.
    """
    if validation_size and source.validation is not None:
        raise InputError(
            "config.dataset.validation_size: expected 0, since the data set has a validation split"
            f" of its own, got {validation_size}"
        )
    if not validation_size and source.validation is None:
        raise InputError(
            "config.dataset.validation_size: expected at least 1 example, since the data set has no"
            " validation split of its own, got 0"
        )
    left = len(source.train) - validation_size
    if left < 1 or train_size > left:
        raise InputError(
            f"config.dataset: expected a validation_size and a train_size of together at most"
            f" {len(source.train)} training examples, got {validation_size} and {train_size}"
        )
    # Validation first, so that it is the same for every size of the training split.
    sizes = {"validation": validation_size, "train": train_size or left}
    splits = {**split(source.train, sizes, seed), "test": source.test, **source.others}
    if source.validation is not None:
        splits["validation"] = source.validation
    example = source.train.take(np.arange(1)).inputs
    return Dataset(splits, source.task, source.normalise, example, source.columns)
