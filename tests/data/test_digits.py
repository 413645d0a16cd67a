import numpy as np
from sklearn import datasets

from akd_jax.data import digits


def test_splits_are_the_whole_set_without_overlap():
    dataset = digits.load()
    assert {name: len(split) for name, split in dataset.splits.items()} == digits.SIZES
    inputs = np.concatenate([split.inputs for split in dataset.splits.values()])
    labels = np.concatenate([split.labels for split in dataset.splits.values()])
    source = datasets.load_digits()
    assert len(labels) == len(source.target) == 1797

    def rows(images, targets):
        flat = np.column_stack([np.float32(images).reshape(len(targets), -1), targets])
        return flat[np.lexsort(flat.T)]

    np.testing.assert_array_equal(rows(inputs, labels), rows(source.images / 16, source.target))


def test_the_split_never_changes():
    dataset = digits.load()
    first = {name: split.labels[:10].tolist() for name, split in dataset.splits.items()}
    assert first == SPLIT
    for split in dataset.splits.values():
        assert split.inputs.shape[1:] == (8, 8, 1)
        assert split.inputs.dtype == np.float32
        assert split.inputs.min() == 0
        assert split.inputs.max() == 1


# From numpy.random.RandomState(0).permutation(1797) over scikit-learn's order.
SPLIT = {
    "train": [2, 8, 2, 6, 6, 7, 1, 9, 8, 5],
    "validation": [2, 1, 9, 2, 3, 1, 7, 7, 4, 5],
    "test": [0, 9, 6, 9, 8, 4, 5, 8, 1, 6],
}
