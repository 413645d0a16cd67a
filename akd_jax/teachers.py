"""Where a teacher's outputs come from."""

import jax.numpy as jnp
from flax import struct

from akd_jax.types import Batch, Model, Outputs


class LiveTeacher(struct.PyTreeNode):
    """A teacher that is run inside the step, in inference mode.

    It is an argument of the step, not a constant of it: another teacher of the same
    architecture is no other program, and its weights are held once.
    """

    model: Model

    def __call__(self, batch: Batch) -> Outputs:
        """The teacher's outputs for this device's share of a batch."""
        return self.model(batch.inputs)


class CachedTeacher(struct.PyTreeNode):
    """A teacher whose logits were stored before and come with the batch.

    Attributes:
      name: its name among the batch's `teacher_logits`.
    """

    name: str = struct.field(pytree_node=False)

    def __call__(self, batch: Batch) -> Outputs:
        """The stored logits for this device's share of a batch."""
        return Outputs(logits=jnp.asarray(batch.teacher_logits[self.name]))
