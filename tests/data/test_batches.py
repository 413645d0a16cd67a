import numpy as np
import pytest

from akd_jax.data import Batches, Examples


def examples(count):
    return Examples(np.arange(count, dtype=np.float32)[:, None], np.arange(count, dtype=np.int32))


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_an_epoch_counts_every_example_once(count, batch_size):
    batches = Batches(examples(count), batch_size, seed=0)
    found = list(batches.epoch(3))
    assert len(found) == len(batches) == -(-count // batch_size)
    counted = np.concatenate([batch.labels[batch.weights == 1] for batch in found])
    assert sorted(counted) == list(range(count))
    for batch in found:
        assert batch.inputs.shape == (batch_size, 1)
        assert set(batch.weights) <= {0, 1}
        np.testing.assert_array_equal(batch.inputs[:, 0], batch.labels)


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return [b.labels.tolist() for b in Batches(examples(100), 10, seed=seed).epoch(epoch)]

    assert order(0, 5) == order(0, 5)
    assert order(0, 5) != order(0, 6)
    assert order(0, 5) != order(1, 5)


def test_without_a_seed_the_order_is_the_splits():
    batches = list(Batches(examples(5), 2).epoch())
    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [2, 3], [4, 0]]
    assert batches[-1].weights.tolist() == [1, 0]
