"""A loss in JAX, the same loss in PyTorch, and inputs for both."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch


@dataclasses.dataclass(frozen=True)
class LossCase:
    """A loss to measure. Both functions take the arrays of `inputs` by name.

    Attributes:
      name: the name in akd_jax.losses.
      jax: returns one value per row.
      torch: returns the mean of these values.
      inputs: returns the arrays. Those whose name starts with 'student' get a gradient. An entry
        may be a dict of arrays, such as 'student_parameters', the parameters of a loss module.
      size: what tells this case from others of the same name, such as 'B 64, C 100'.
    """

    name: str
    jax: Callable[..., jax.Array]
    torch: Callable[..., torch.Tensor]
    inputs: Callable[[], Mapping[str, Any]]
    size: str = ""


def random_logits(rows: int, classes: int, *, labels: bool = False) -> dict[str, np.ndarray]:
    """Returns logits [B, C] of student and teacher, and labels [B] if asked for."""
    rng = np.random.default_rng(0)
    arrays = {
        name: (3 * rng.normal(size=(rows, classes))).astype(np.float32)
        for name in ("student_logits", "teacher_logits")
    }
    if labels:
        arrays["labels"] = rng.integers(0, classes, rows).astype(np.int32)
    return arrays


def random_features(
    student: tuple[int, ...], teacher: tuple[int, ...] | None = None
) -> dict[str, np.ndarray]:
    """Returns features of these shapes; the teacher's have the student's shape by default."""
    rng = np.random.default_rng(0)
    return {
        "student_features": rng.normal(size=student).astype(np.float32),
        "teacher_features": rng.normal(size=teacher or student).astype(np.float32),
    }


def split_inputs(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the inputs that get a gradient, and the others."""
    student = {name: x for name, x in inputs.items() if name.startswith("student")}
    return student, {name: x for name, x in inputs.items() if name not in student}
