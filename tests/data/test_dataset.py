import numpy as np
import pytest

from akd_jax.data.dataset import Examples, split

EXAMPLES = Examples(np.arange(10, dtype=np.float32)[:, None], np.arange(10, dtype=np.int32))


def test_split_is_fixed_by_its_seed():
    sizes = {"a": 6, "b": 4}
    one, again, other = split(EXAMPLES, sizes, 1), split(EXAMPLES, sizes, 1), split(EXAMPLES, sizes)
    np.testing.assert_array_equal(one["a"].labels, again["a"].labels)
    assert (one["a"].labels != other["a"].labels).any()
    assert sorted([*one["a"].labels, *one["b"].labels]) == list(range(10))
    np.testing.assert_array_equal(one["b"].inputs[:, 0], one["b"].labels)


def test_split_sizes_must_add_up():
    with pytest.raises(ValueError, match="add up to 10"):
        split(EXAMPLES, {"a": 6, "b": 3})
