"""A data set in memory, its splits, and the scale of its inputs."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs [N, ...] and labels int32 [N] of one split."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples at `indices`, in their order."""
        return Examples(self.inputs[indices], self.labels[indices])


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
    """A data set as it is published: all training examples, and the test split."""

    train: Examples
    test: Examples
    num_classes: int
    normalise: Normalise


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The splits 'train', 'validation' and 'test' of a task with `num_classes` classes."""

    splits: Mapping[str, Examples]
    num_classes: int
    normalise: Normalise


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
      validation_size: examples of the validation split.
      train_size: examples of the training split; 0 for all that are left.
      seed: of the split.

    Raises:
      InputError: there are not as many examples.
    """
    left = len(source.train) - validation_size
    if left < 1 or train_size > left:
        raise InputError(
            f"config.dataset: expected a validation_size and a train_size of together at most"
            f" {len(source.train)} training examples, got {validation_size} and {train_size}"
        )
    # Validation first, so that it is the same for every size of the training split.
    sizes = {"validation": validation_size, "train": train_size or left}
    splits = {**split(source.train, sizes, seed), "test": source.test}
    return Dataset(splits, source.num_classes, source.normalise)
