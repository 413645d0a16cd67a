"""Batches of one shape, in an order that depends on nothing but the seed and the epoch."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from akd_jax.data.dataset import Examples
from akd_jax.types import Batch


class Batches:
    """A split, cut into batches of `batch_size` rows.

    Each epoch visits every example once. Where the batch size does not divide the split,
    the last batch is filled up with examples of weight 0. They are examples of the same
    epoch, not zeros, so that batch statistics see nothing but real data.

    Args:
      examples: the split; an example's id is its place in it.
      batch_size: rows of a batch, over all devices.
      seed: for a new order in each epoch; None for the order of the split.
      views: how many views of each example there are, drawn in turn; 0: each epoch draws a
        view of its own.
      teacher_logits: name to a teacher's stored logits for each of the views, [N, C].
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        seed: int | None = None,
        views: int = 0,
        teacher_logits: Mapping[str, Sequence[np.ndarray]] | None = None,
    ):
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.views = views
        self.teacher_logits = teacher_logits or {}

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch`: the same ones whenever it is asked for."""
        count = len(self.examples)
        order = np.arange(count, dtype=np.int32)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        ids = np.resize(order, len(self) * self.batch_size)  # Repeats from the start.
        weights = (np.arange(len(ids)) < count).astype(np.float32)
        view = epoch % self.views if self.views else epoch
        for start in range(0, len(ids), self.batch_size):
            part = slice(start, start + self.batch_size)
            rows = ids[part]
            examples = self.examples.take(rows)
            yield Batch(
                examples.inputs,
                examples.labels,
                weights[part],
                ids=rows,
                views=np.full_like(rows, view),
                epochs=np.full_like(rows, epoch),
                teacher_logits={
                    name: logits[view][rows] for name, logits in self.teacher_logits.items()
                },
            )
