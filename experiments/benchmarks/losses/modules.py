"""Loss modules as functions of arrays and of their parameters, for a `LossCase` and for tests."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.types import Batch, Clock, Head, Outputs

_KEY = 0  # The seed of a module's random numbers.


def module_loss(module: nn.Module) -> Callable[..., jax.Array]:
    """Returns a loss module as a function that returns the scaled sum of its terms, [B].

    The function takes arrays by name: 'student_NAME' and 'teacher_NAME' are the features NAME, and
    'student_parameters' is the module's tree of parameters. 'student_logits', 'teacher_logits',
    'labels' and 'weights' are what their names say, 'extra_NAME' is an array of `batch.extra`, and
    'teacher_head' is the tree of the teacher's last layer with 'kernel' and 'bias'. It ignores
    other names.
    """

    def loss(*, student_parameters: Any, **arrays: Any) -> jax.Array:
        # A batch norm uses the statistics of the batch, and creates the running ones.
        terms, _ = module.apply(
            {"params": student_parameters},
            *_arguments(arrays),
            rngs={"loss": jax.random.key(_KEY)},
            mutable=["batch_stats"],
        )
        return jnp.stack([term.scale * term.values for term in terms.values()]).sum(axis=0)

    return loss


def initial_parameters(module: nn.Module, arrays: Mapping[str, Any]) -> Any:
    """Returns the initial parameters of a loss module as NumPy arrays.

    Args:
      module: the module.
      arrays: its arrays by name, without 'student_parameters'.
    """
    keys = {"params": jax.random.key(1), "loss": jax.random.key(_KEY)}
    variables = jax.jit(lambda: module.init(keys, *_arguments(arrays)))()
    return jax.tree.map(np.asarray, variables.get("params", {}))


def random_numbers_of(module: nn.Module, method: Callable[..., Any], *args: Any) -> np.ndarray:
    """Returns what a method of a module draws in the first call of `module_loss`.

    Args:
      module: the module.
      method: the method, such as `MGD.draw_mask`.
      *args: its arguments.
    """
    return np.asarray(module.apply({}, *args, method=method, rngs={"loss": jax.random.key(_KEY)}))


def batch_of(rows: int) -> Batch:
    """Returns a batch of examples that count, without inputs and ids."""
    return Batch(None, np.zeros(rows, np.int32), np.ones(rows, np.float32))


def _arguments(
    arrays: Mapping[str, Any],
) -> tuple[Outputs, Mapping[str, Outputs], Batch, Clock]:
    """Returns the arguments of a loss module."""
    rest = dict(arrays)
    head = rest.pop("teacher_head", None)
    rows = len(next(iter(rest.values())))

    def outputs(owner: str) -> Outputs:
        logits = rest.pop(f"{owner}_logits", jnp.zeros((rows, 1)))
        features = {
            name.removeprefix(f"{owner}_"): jnp.asarray(array)
            for name, array in rest.items()
            if name.startswith(f"{owner}_")
        }
        return Outputs(jnp.asarray(logits), features)

    teacher = outputs("teacher").replace(head=None if head is None else Head(**head))
    batch = batch_of(rows)
    batch = batch.replace(
        labels=arrays.get("labels", batch.labels),
        weights=arrays.get("weights", batch.weights),
        extra={
            name.removeprefix("extra_"): array
            for name, array in arrays.items()
            if name.startswith("extra_")
        },
    )
    return outputs("student"), {"teacher": teacher}, batch, Clock.at()
