"""Suite 'vocabulary': the memory of a loss over a large vocabulary, whole and in chunks of rows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from akd_jax import losses
from akd_jax.types import Head

ROWS, CLASSES, WIDTH = 512, 32768, 256  # Tokens of a batch, tokens of a vocabulary, hidden size.


def measure(repeats: int) -> dict[str, Any]:
    """Reads the temporary memory of the KL divergence and its gradient from compiled programs.

    The logits are bfloat16, and so are the hidden states, with last layers in float32. The
    temporary memory is what a program needs next to its arguments and its results. Nothing runs.
    """
    del repeats  # Nothing is timed.
    seconds: dict[str, float] = {}
    rows, ratios = [], {}
    for name, (whole, chunked, arguments) in _comparisons().items():
        sizes = [temporary_bytes(loss, arguments) / 2**20 for loss in (whole, chunked)]
        rows.append([name, *(f"{size:.0f}" for size in sizes)])
        ratios[f"{name}: whole / chunks"] = sizes[0] / sizes[1]
    return {
        "seconds": seconds,
        "ratios": ratios,
        "table": {"headers": [f"MiB, [{ROWS}, {CLASSES}]", "whole", "16 chunks"], "rows": rows},
    }


def temporary_bytes(loss: Callable[..., jax.Array], arguments: Mapping[str, Any]) -> int:
    """Returns the bytes of temporary memory of the mean of a loss and its gradient.

    Args:
      loss: returns one value per row.
      arguments: shapes by name. Those whose name starts with 'student' get a gradient.
    """
    student = {name: x for name, x in arguments.items() if name.startswith("student")}
    others = {name: x for name, x in arguments.items() if name not in student}

    def mean(student: Mapping[str, Any], others: Mapping[str, Any]) -> jax.Array:
        return loss(**student, **others).mean()

    program: Any = jax.jit(jax.value_and_grad(mean)).lower(student, others).compile()
    return program.memory_analysis().temp_size_in_bytes


def _comparisons() -> dict[str, tuple[Callable[..., jax.Array], Callable[..., jax.Array], Any]]:
    """Returns a loss, the same loss in chunks, and its arguments, by name."""
    logits = jax.ShapeDtypeStruct((ROWS, CLASSES), jnp.bfloat16)
    features = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.bfloat16)
    head = jax.eval_shape(lambda: Head(jnp.zeros((WIDTH, CLASSES)), jnp.zeros(CLASSES)))
    return {
        "logits": (
            _kl,
            losses.chunked(_kl),
            {"student_logits": logits, "teacher_logits": logits},
        ),
        "hidden states": (
            _linear_kl,
            losses.linear_chunked(_kl),
            {
                "student_features": features,
                "student_head": head,
                "teacher_features": features,
                "teacher_head": head,
            },
        ),
    }


def _kl(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    return losses.kl(student_logits, teacher_logits, temperature=2.0)


def _linear_kl(
    student_features: jax.Array, student_head: Head, teacher_features: jax.Array, teacher_head: Head
) -> jax.Array:
    student, teacher = (
        features.astype(jnp.float32) @ head.kernel + head.bias
        for features, head in ((student_features, student_head), (teacher_features, teacher_head))
    )
    return _kl(student, teacher)
