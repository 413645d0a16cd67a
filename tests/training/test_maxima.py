"""Maxima of logits, against NumPy and `jax.lax`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.training.maxima import argmax, is_argmax, top_k


@pytest.fixture(params=[3, 128, 1000])
def values(request):
    """Rows with many equal values."""
    return np.float32(np.random.default_rng(0).integers(0, 50, size=(40, request.param)))


def test_argmax_is_the_first_largest_value(values):
    values[0] = -np.inf
    np.testing.assert_array_equal(jax.jit(argmax)(values), values.argmax(axis=-1))
    for indices in (values.argmax(axis=-1), np.zeros(40, int), np.full(40, 2)):
        expected = indices == values.argmax(axis=-1)
        np.testing.assert_array_equal(is_argmax(jnp.asarray(values), np.int32(indices)), expected)
    assert not is_argmax(jnp.asarray(values), np.full(40, -1, np.int32)).any()
    with jax.debug_nans(False):
        broken = jnp.asarray(values).at[1, 0].set(jnp.nan)
        assert 0 <= argmax(broken)[1] < values.shape[1]
        assert not is_argmax(broken, jnp.zeros(40, jnp.int32))[1]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_is_that_of_jax(values, k):
    values[0] = -np.inf
    for shape in (values.shape, (4, 10, values.shape[-1])):
        reshaped = jnp.asarray(values.reshape(shape))
        expected = jax.lax.top_k(reshaped, k)
        for actual, of_jax in zip(
            jax.jit(top_k, static_argnums=1)(reshaped, k), expected, strict=True
        ):
            np.testing.assert_array_equal(actual, of_jax)
