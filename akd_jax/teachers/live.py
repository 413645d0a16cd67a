"""Teachers as the training step calls them: networks that run in the step, or stored outputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from akd_jax.models.network import Model
from akd_jax.types import Batch, Outputs


class LiveTeacher(struct.PyTreeNode):
    """A teacher that runs inside the step, in inference mode.

    It is an argument of the step, not a constant. Another teacher with the same architecture
    does not recompile the step, and the weights are in memory only once.

    Attributes:
      model: the network and its variables.
      select: the part of the outputs that the loss may read; None for all.
    """

    model: Model
    select: Callable[[Outputs], Outputs] | None = struct.field(pytree_node=False, default=None)

    def __call__(self, batch: Batch) -> Outputs:
        """Returns the teacher's outputs for this device's share of a batch."""
        outputs = self.model(batch.inputs)
        return outputs if self.select is None else self.select(outputs)


class StoredTeacher(struct.PyTreeNode):
    """A teacher whose outputs were stored earlier and are part of the batch.

    Attributes:
      name: the key of the outputs in the batch's `stored`.
    """

    name: str = struct.field(pytree_node=False)

    def __call__(self, batch: Batch) -> Outputs:
        """Returns the stored outputs for this device's share of a batch, in float32."""
        return jax.tree.map(_widen, batch.stored[self.name])


def _widen(array: jax.Array) -> jax.Array:
    array = jnp.asarray(array)
    return array.astype(jnp.float32) if jnp.issubdtype(array.dtype, jnp.floating) else array
