"""Batches of one shape, in an order that depends on nothing but the seed and the epoch."""

from collections.abc import Iterator

import numpy as np

from akd_jax.data.dataset import Examples
from akd_jax.types import Batch


class Batches:
    """A split, cut into batches of `batch_size` rows.

    Each epoch visits every example once. Where the batch size does not divide the split,
    the last batch is filled up with examples of weight 0. They are examples of the same
    epoch, not zeros, so that batch statistics see nothing but real data.

    Args:
      examples: the split.
      batch_size: rows of a batch, over all devices.
      seed: for a new order in each epoch; None for the order of the split.
    """

    def __init__(self, examples: Examples, batch_size: int, *, seed: int | None = None):
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch`: the same ones whenever it is asked for."""
        count = len(self.examples)
        order = np.arange(count)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(count)
        rows = np.resize(order, len(self) * self.batch_size)  # Repeats from the start.
        weights = (np.arange(len(rows)) < count).astype(np.float32)
        for start in range(0, len(rows), self.batch_size):
            part = slice(start, start + self.batch_size)
            examples = self.examples.take(rows[part])
            yield Batch(examples.inputs, examples.labels, weights[part])
