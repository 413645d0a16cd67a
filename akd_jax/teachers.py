"""Teachers: sources of teacher outputs for a batch."""

import jax.numpy as jnp
from flax import struct

from akd_jax.types import Batch, Model, Outputs


class LiveTeacher(struct.PyTreeNode):
    """A teacher that runs inside the step, in inference mode.

    It is an argument of the step, not a constant. Another teacher with the same architecture
    does not recompile the step, and the weights are in memory only once.
    """

    model: Model

    def __call__(self, batch: Batch) -> Outputs:
        """Returns the teacher's outputs for this device's share of a batch."""
        return self.model(batch.inputs)


class CachedTeacher(struct.PyTreeNode):
    """A teacher whose logits were stored earlier and are part of the batch.

    Attributes:
      name: the key of the logits in the batch's `teacher_logits`.
    """

    name: str = struct.field(pytree_node=False)

    def __call__(self, batch: Batch) -> Outputs:
        """Returns the stored logits for this device's share of a batch."""
        return Outputs(logits=jnp.asarray(batch.teacher_logits[self.name]))
