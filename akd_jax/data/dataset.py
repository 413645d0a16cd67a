"""A data set in memory and its splits."""

import dataclasses
from collections.abc import Mapping

import numpy as np


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
class Dataset:
    """The splits 'train', 'validation' and 'test' of a task with `num_classes` classes."""

    splits: Mapping[str, Examples]
    num_classes: int


def split(examples: Examples, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Examples]:
    """Cuts examples at random into splits of the given sizes, the same ones for a seed forever.

    Args:
      examples: all of them.
      sizes: split name to its number of examples; together all of them.
      seed: of NumPy's frozen generator (RandomState), whose stream no release changes.
    """
    if sum(sizes.values()) != len(examples):
        raise ValueError(f"expected sizes that add up to {len(examples)}, got {dict(sizes)}")
    order = np.random.RandomState(seed).permutation(len(examples))
    ends = np.cumsum(list(sizes.values()))
    parts = np.split(order, ends[:-1])
    return {name: examples.take(part) for name, part in zip(sizes, parts, strict=True)}
