"""Random numbers of a loss that are the same for any number of devices."""

import jax
import jax.numpy as jnp

from akd_jax.types import Batch


def shared_key(key: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the PRNG key of the first device on all devices.

    Args:
      key: a key, which may differ between the devices.
      axis_name: the axis of the devices; None for one device.
    """
    if axis_name is None:
        return key
    data = jax.lax.all_gather(jax.random.key_data(key), axis_name)[0]
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def example_keys(key: jax.Array, batch: Batch, axis_name: str | None) -> jax.Array:
    """Returns a PRNG key for each example, which does not depend on the number of devices.

    It depends on the id of the example; or on its row, if the batch has no ids.

    Args:
      key: a key, which may differ between the devices; that of the first device counts.
      batch: this device's share of a batch.
      axis_name: the axis of the devices; None for one device.

    Returns:
      Keys [B].
    """
    numbers = jnp.arange(len(batch.weights)) if batch.ids is None else jnp.asarray(batch.ids)
    if batch.ids is None and axis_name is not None:
        numbers += jax.lax.axis_index(axis_name) * len(batch.weights)
    key = shared_key(key, axis_name)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
