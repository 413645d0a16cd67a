"""Batches of few shapes, in an order that depends on nothing but the seed and the epoch."""

from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from akd_jax.data import text
from akd_jax.data.dataset import Examples
from akd_jax.types import Batch

_CHUNK_BYTES = 8_000_000


class Batches:
    """A split, cut into batches of `batch_size` rows.

    Each epoch visits every example once. Where the batch size does not divide the split,
    one batch is filled up with examples of weight 0. They are examples of the same epoch,
    not zeros, so that batch statistics see nothing but real data.

    Texts of like lengths come together: a batch is filled up to the first of a few lengths
    that holds all of it. What is left over of a length goes into the next one's batches, so
    that an epoch has as many batches as without.

    Args:
      examples: the split; an example's id is its place in it.
      batch_size: rows of a batch, over all devices.
      seed: for a new order in each epoch; None for the order of the split, or of the lengths.
      buckets: the lengths, of texts; the last one holds all of them. None: inputs of one shape.
      views: how many views of each example there are, drawn in turn; 0: each epoch draws a
        view of its own.
      teacher_logits: name to a teacher's stored logits for each of the views, [N, C].
      part: number and count of the parts that each batch is cut into, one for each process;
        this one is yielded, [batch_size / count, ...].
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        seed: int | None = None,
        buckets: Sequence[int] = (),
        views: int = 0,
        teacher_logits: Mapping[str, Sequence[np.ndarray]] | None = None,
        part: tuple[int, int] = (0, 1),
    ):
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.buckets = tuple(buckets)
        self.views = views
        self.teacher_logits = teacher_logits or {}
        number, count = part
        self._part = slice(number * batch_size // count, (number + 1) * batch_size // count)
        lengths = text.longest(examples.inputs) if buckets else np.zeros(len(examples), np.int32)
        row = sum(leaf[:1].nbytes for leaf in jax.tree.leaves(examples.inputs))
        self._chunk = max(1, _CHUNK_BYTES // (row * batch_size))  # Batches gathered together.
        self._bucket = np.searchsorted(self.buckets, lengths)  # Of each example; else 0.

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.examples) // self.batch_size)

    def padding(self) -> float:
        """The share of padding among the tokens of the first epoch's batches."""
        lengths = text.longest(self.examples.inputs)
        sizes = [
            self.batch_size * self.buckets[bucket] for _, bucket in self._cut(self._order(0), 0)
        ]
        return 1 - float(lengths.sum() / np.sum(sizes))

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch`, from number `first` on: the same ones whenever
        they are asked for.
        """
        for whole, buckets in self._chunks(epoch, first):
            leaves, tree = jax.tree.flatten(whole)
            for number, bucket in enumerate(buckets):
                batch = jax.tree.unflatten(tree, [leaf[number] for leaf in leaves])
                if self.buckets:
                    batch = batch.replace(inputs=text.crop(batch.inputs, self.buckets[bucket]))
                yield batch

    def groups(self, size: int, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """As `epoch`, several batches at once, [K, batch_size, ...]: K is `size`, or what is
        left at the end. Of inputs of one shape.
        """
        assert not self.buckets, "expected inputs of one shape"
        for whole, buckets in self._chunks(epoch, first, size):
            leaves, tree = jax.tree.flatten(whole)
            for start in range(0, len(buckets), size):
                yield jax.tree.unflatten(tree, [leaf[start : start + size] for leaf in leaves])

    def _chunks(
        self, epoch: int, first: int, multiple: int = 1
    ) -> Iterator[tuple[Batch, Sequence[int]]]:
        """The batches of an epoch in chunks [K, batch_size, ...], with the bucket of each batch.
        All but the last chunk hold a `multiple` of batches.

        The examples of a chunk are gathered at once, which takes less time.
        """
        order = self._order(epoch)
        cut = self._cut(order, epoch)[first:]
        size = max(1, self._chunk // multiple) * multiple
        for start in range(0, len(cut), size):
            ids, buckets = zip(*cut[start : start + size], strict=True)
            yield self._take(ids, order, epoch), buckets

    def _take(self, ids: Sequence[np.ndarray], order: np.ndarray, epoch: int) -> Batch:
        """Some batches of an epoch, [K, batch_size, ...]: filled up, and this part of them."""

        def filled(real: np.ndarray) -> np.ndarray:
            missing = self.batch_size - len(real)
            return np.concatenate([real, np.resize(order, missing)]) if missing else real

        view = epoch % self.views if self.views else epoch
        rows = np.stack([filled(real)[self._part] for real in ids])
        places = np.arange(self.batch_size)[self._part]
        examples = self.examples.take(rows)
        return Batch(
            examples.inputs,
            examples.labels,
            (places < np.array([[len(real)] for real in ids])).astype(np.float32),
            ids=rows,
            views=np.full_like(rows, view),
            epochs=np.full_like(rows, epoch),
            teacher_logits={name: found[view][rows] for name, found in self.teacher_logits.items()},
        )

    def _order(self, epoch: int) -> np.ndarray:
        order = np.arange(len(self.examples), dtype=np.int32)
        if self.seed is None:
            return order
        return np.random.default_rng((self.seed, epoch)).permutation(order)

    def _cut(self, order: np.ndarray, epoch: int) -> list[tuple[np.ndarray, int]]:
        """The ids of each batch, without those that fill it up, and its bucket."""
        batches: list[tuple[np.ndarray, int]] = []
        waiting = order[:0]
        for bucket in np.unique(self._bucket):
            waiting = np.concatenate([waiting, order[self._bucket[order] == bucket]])
            whole = len(waiting) // self.batch_size * self.batch_size
            for start in range(0, whole, self.batch_size):
                batches.append((waiting[start : start + self.batch_size], int(bucket)))
            waiting = waiting[whole:]
        if len(waiting):
            batches.append((waiting, int(self._bucket[waiting].max())))
        if self.seed is not None and self.buckets:
            places = np.random.default_rng((self.seed, epoch, 1)).permutation(len(batches))
            batches = [batches[place] for place in places]  # Or an epoch would go by length.
        return batches
