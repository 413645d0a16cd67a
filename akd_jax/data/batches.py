"""Batches with few distinct shapes, in an order that depends only on the seed and the epoch."""

from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from akd_jax.data import text
from akd_jax.data.dataset import Examples
from akd_jax.types import Batch, Outputs


class Batches:
    """Iterates over a split in batches of `batch_size` rows.

    Each epoch visits every example once. If the batch size does not divide the size of the
    split, one batch is padded with rows of weight 0. These rows are examples of the same epoch
    rather than zeros, so that batch norm sees only real data.

    Texts use length bucketing: each batch is padded to the smallest bucket that fits its texts.
    The examples left over from one bucket move to the next larger one, so bucketing adds no
    batches to an epoch.

    Args:
      examples: the split. The id of an example is its index in the split.
      batch_size: rows of a batch, summed over all devices.
      seed: seed of the order, which changes each epoch. None keeps the order of the split, or
        sorts texts by bucket.
      buckets: padded lengths of texts, in increasing order. The last one must hold every text.
        Empty for inputs of a fixed shape.
      views: number of augmented views per example; epoch e uses view e % views. 0 draws a new
        view in each epoch.
      stored: maps a teacher's name to its stored outputs, one tree of arrays [N, ...] per view.
      part: (index, count) of the part of each batch to yield, where each process of a
        multi-process run takes one part of [batch_size / count, ...].
      chunk_bytes: approximate size in bytes of the inputs that are gathered at once.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        seed: int | None = None,
        buckets: Sequence[int] = (),
        views: int = 0,
        stored: Mapping[str, Sequence[Outputs]] | None = None,
        part: tuple[int, int] = (0, 1),
        chunk_bytes: int = 8_000_000,
    ):
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.buckets = tuple(buckets)
        self.views = views
        self.stored = stored or {}
        index, count = part
        self._part = slice(index * batch_size // count, (index + 1) * batch_size // count)
        lengths = text.longest(examples.inputs) if buckets else np.zeros(len(examples), np.int32)
        row_bytes = sum(leaf[:1].nbytes for leaf in jax.tree.leaves(examples.inputs))
        self._batches_per_chunk = max(1, chunk_bytes // (row_bytes * batch_size))
        # The index of each example's bucket; all zeros without buckets.
        self._bucket = np.searchsorted(self.buckets, lengths)

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def padding(self) -> float:
        """Returns the fraction of padding among the tokens of the first epoch's batches."""
        lengths = text.longest(self.examples.inputs)
        sizes = [
            self.batch_size * self.buckets[bucket]
            for _, bucket in self._assign(self._order(0), epoch=0)
        ]
        return 1 - float(lengths.sum() / np.sum(sizes))

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch, starting at batch number `first`.

        Every call with the same arguments yields the same batches.
        """
        for chunk, buckets in self._chunks(epoch, first):
            leaves, tree = jax.tree.flatten(chunk)
            for index, bucket in enumerate(buckets):
                batch = jax.tree.unflatten(tree, [leaf[index] for leaf in leaves])
                if self.buckets:
                    length = self.buckets[bucket]
                    batch = batch.replace(
                        inputs=text.crop(batch.inputs, length),
                        labels=batch.labels[:, :length] if batch.labels.ndim > 1 else batch.labels,
                    )
                yield batch

    def groups(self, size: int, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch in stacks of `size`, [size, batch_size, ...].

        The last stack is smaller if `size` does not divide the number of batches. The inputs
        must have a fixed shape.
        """
        assert not self.buckets, "expected inputs of one shape"
        for chunk, buckets in self._chunks(epoch, first, size):
            leaves, tree = jax.tree.flatten(chunk)
            for start in range(0, len(buckets), size):
                yield jax.tree.unflatten(tree, [leaf[start : start + size] for leaf in leaves])

    def _chunks(
        self, epoch: int, first: int, multiple: int = 1
    ) -> Iterator[tuple[Batch, Sequence[int]]]:
        """Yields the batches of an epoch in chunks [K, batch_size, ...], with their buckets.

        K is a multiple of `multiple`, except in the last chunk. Gathering a whole chunk at once
        is faster than gathering one batch at a time.
        """
        order = self._order(epoch)
        assigned = self._assign(order, epoch)[first:]
        size = max(1, self._batches_per_chunk // multiple) * multiple
        for start in range(0, len(assigned), size):
            ids, buckets = zip(*assigned[start : start + size], strict=True)
            yield self._gather(ids, order, epoch), buckets

    def _gather(self, ids: Sequence[np.ndarray], order: np.ndarray, epoch: int) -> Batch:
        """Returns this process's part of K padded batches, [K, batch_size / count, ...]."""

        def pad(real: np.ndarray) -> np.ndarray:
            missing = self.batch_size - len(real)
            return np.concatenate([real, np.resize(order, missing)]) if missing else real

        view = epoch % self.views if self.views else epoch
        rows = np.stack([pad(real)[self._part] for real in ids])
        columns = np.arange(self.batch_size)[self._part]
        examples = self.examples.take(rows)
        return Batch(
            examples.inputs,
            examples.labels,
            (columns < np.array([[len(real)] for real in ids])).astype(np.float32),
            ids=rows,
            views=np.full_like(rows, view),
            stored={
                name: jax.tree.map(lambda array: array[rows], outputs[view])
                for name, outputs in self.stored.items()
            },
        )

    def _order(self, epoch: int) -> np.ndarray:
        order = np.arange(len(self.examples), dtype=np.int32)
        if self.seed is None:
            return order
        return np.random.default_rng((self.seed, epoch)).permutation(order)

    def _assign(self, order: np.ndarray, epoch: int) -> list[tuple[np.ndarray, int]]:
        """Returns the example ids of each batch, without padding rows, and its bucket index."""
        batches: list[tuple[np.ndarray, int]] = []
        waiting = order[:0]
        for bucket in np.unique(self._bucket):
            waiting = np.concatenate([waiting, order[self._bucket[order] == bucket]])
            full = len(waiting) // self.batch_size * self.batch_size
            for start in range(0, full, self.batch_size):
                batches.append((waiting[start : start + self.batch_size], int(bucket)))
            waiting = waiting[full:]
        if len(waiting):
            batches.append((waiting, int(self._bucket[waiting].max())))
        if self.seed is not None and self.buckets:
            # Without this shuffle an epoch would be sorted by length.
            permutation = np.random.default_rng((self.seed, epoch, 1)).permutation(len(batches))
            batches = [batches[index] for index in permutation]
        return batches
