import numpy as np
from sklearn import datasets

from akd_jax import data
from akd_jax.data.readers import digits
from akd_jax.runs.config import parse

# Computed once with numpy.random.RandomState(0): a permutation of all images, in the order of
# scikit-learn, and then one of the training examples. A change would make old results incomparable.
FIRST_LABELS = {
    "validation": [3, 4, 7, 1, 4, 9, 0, 9, 4, 9],
    "train": [2, 3, 9, 6, 5, 1, 8, 6, 1, 3],
    "test": [0, 9, 6, 9, 8, 4, 5, 8, 1, 6],
}


def test_source_contains_every_image_once():
    source = digits.load(None)
    inputs = np.concatenate([source.train.inputs, source.test.inputs])
    labels = np.concatenate([source.train.labels, source.test.labels])
    original = datasets.load_digits()
    assert len(labels) == len(original.target) == 1797

    def rows(images, targets):
        flat = np.column_stack([np.float32(images).reshape(len(targets), -1), targets])
        return flat[np.lexsort(flat.T)]

    np.testing.assert_array_equal(rows(inputs, labels), rows(original.images, original.target))


def test_splits_are_fixed(config):
    dataset = data.load(parse(config).dataset)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "validation": 297,
        "train": 1000,
        "test": 500,
    }
    first = {name: split.labels[:10].tolist() for name, split in dataset.splits.items()}
    assert first == FIRST_LABELS
    for split in dataset.splits.values():
        assert split.inputs.shape[1:] == (8, 8, 1)
        normalised = dataset.normalise(split.inputs)
        assert normalised.dtype == np.float32
        assert (normalised.min(), normalised.max()) == (0, 1)
