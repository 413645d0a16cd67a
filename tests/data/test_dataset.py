import dataclasses

import numpy as np
import pytest

from akd_jax.data import Examples, Normalise, Source, hold_out
from akd_jax.data.dataset import split
from akd_jax.host.errors import InputError
from akd_jax.types import Task

EXAMPLES = Examples(np.arange(10, dtype=np.float32)[:, None], np.arange(10, dtype=np.int32))
TEST = Examples(np.full((3, 1), 100.0, np.float32), np.full(3, 100, np.int32))
SOURCE = Source(EXAMPLES, TEST, task=Task.numbered(10), normalise=Normalise((0.0,), (1.0,)))


def test_split_depends_only_on_the_seed():
    sizes = {"a": 6, "b": 4}
    one, again, other = (split(EXAMPLES, sizes, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["a"].labels, again["a"].labels)
    assert (one["a"].labels != other["a"].labels).any()
    assert sorted([*one["a"].labels, *one["b"].labels]) == list(range(10))
    np.testing.assert_array_equal(one["b"].inputs[:, 0], one["b"].labels)


def test_validation_split_does_not_depend_on_train_size():
    full = hold_out(SOURCE, validation_size=4, train_size=0, seed=0).splits
    small = hold_out(SOURCE, validation_size=4, train_size=3, seed=0).splits
    assert sorted([*full["validation"].labels, *full["train"].labels]) == list(range(10))
    np.testing.assert_array_equal(small["validation"].labels, full["validation"].labels)
    np.testing.assert_array_equal(small["train"].labels, full["train"].labels[:3])
    assert full["test"] is TEST


def test_share_of_the_training_examples():
    full = hold_out(SOURCE, validation_size=4, train_size=0, seed=0).splits["train"]
    options = {"validation_size": 4, "seed": 0, "train_fraction": 0.5}
    half = hold_out(SOURCE, train_size=0, **options).splits["train"]
    np.testing.assert_array_equal(half.labels, full.labels[:3])
    message = r"train_fraction: expected 1 with train_size, got 0.5 and 2 examples"
    with pytest.raises(InputError, match=message):
        hold_out(SOURCE, train_size=2, **options)


def test_examples_without_labels_are_a_split_that_is_not_tested():
    source = dataclasses.replace(SOURCE, unlabelled=TEST, others={"test_far": TEST})
    dataset = hold_out(source, validation_size=4, train_size=0, seed=0)
    assert dataset.splits["unlabelled"] is TEST
    assert dataset.test_splits == ["test", "test_far"]


@pytest.mark.parametrize(("validation_size", "train_size"), [(10, 0), (4, 7), (1, 10)])
def test_too_large_splits_are_rejected(validation_size, train_size):
    with pytest.raises(InputError, match=r"expected at least 11 training examples for .* got 10"):
        hold_out(SOURCE, validation_size=validation_size, train_size=train_size, seed=0)


def test_normalise_matches_hand_computation():
    normalise = Normalise(mean=(1.0, 2.0), std=(2.0, 4.0))
    images = normalise(np.uint8([[3, 2], [1, 10]]))
    np.testing.assert_array_equal(images, [[1, 0], [0, 2]])
    assert images.dtype == np.float32


def test_published_validation_split_is_used():
    published = dataclasses.replace(SOURCE, validation=TEST)
    splits = hold_out(published, validation_size=0, train_size=0, seed=0).splits
    assert splits["validation"] is TEST
    assert sorted(splits["train"].labels) == list(range(10))
    with pytest.raises(InputError, match=r"expected 0, .* has a validation split, got 4"):
        hold_out(published, validation_size=4, train_size=0, seed=0)
    with pytest.raises(InputError, match=r"at least 1 example, .* no validation split, got 0"):
        hold_out(SOURCE, validation_size=0, train_size=0, seed=0)
