"""Preparation of logits for the losses: the axis and the mask of the classes, and the softmax."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from akd_jax import checks
from akd_jax.types import Array

ClassReduction = Literal["mean", "sum"]


def prepare(logits: Array, axis: int, where: Array | None) -> tuple[jax.Array, jax.Array | None]:
    """Returns float32 logits [..., C] with 0 in place of masked ones, and the mask [..., C]."""
    classes_last = jnp.moveaxis(jnp.asarray(logits, jnp.float32), axis, -1)
    if where is None:
        return classes_last, None
    where = jnp.moveaxis(checks.broadcast_mask("where", where, logits.shape), axis, -1)
    return jnp.where(where, classes_last, 0), where


def exclude_masked(logits: jax.Array, where: jax.Array | None) -> jax.Array:
    """Sets masked logits to -inf; to 0 in rows in which no class counts, to avoid NaN."""
    if where is None:
        return logits
    return jnp.where(where, logits, jnp.where(where.any(axis=-1, keepdims=True), -jnp.inf, 0))


def without_empty_rows(values: jax.Array, where: jax.Array | None) -> jax.Array:
    """Sets the values [...] of rows in which no class counts to 0."""
    return values if where is None else jnp.where(where.any(axis=-1), values, 0)


def prepare_pair(
    student_logits: Array, teacher_logits: Array, axis: int, where: Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Prepares the logits of student and teacher; stops the gradient of the teacher's.

    Raises:
      ValueError: the shapes differ, or the mask does not fit the logits.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"teacher_logits: expected the student's shape {student_logits.shape}, got"
            f" {teacher_logits.shape}"
        )
    student, mask = prepare(student_logits, axis, where)
    teacher, _ = prepare(teacher_logits, axis, where)
    return student, jax.lax.stop_gradient(teacher), mask


def without_common_infinities(
    student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sets logits of -inf in both to 0, so that their difference is 0."""
    excluded = (student == -jnp.inf) & (teacher == -jnp.inf)
    return jnp.where(excluded, 0, student), jnp.where(excluded, 0, teacher)


def reduce_classes(
    values: jax.Array, where: jax.Array | None, class_reduction: ClassReduction
) -> jax.Array:
    """Returns the sum or the mean of values [..., C], which are 0 for masked classes, [...].

    The mean is that over the classes that count, and 0 if there is none.

    Raises:
      ValueError: class_reduction is unknown.
    """
    if class_reduction not in ("mean", "sum"):
        raise ValueError(f"class_reduction: expected 'mean' or 'sum', got {class_reduction!r}")
    if class_reduction == "sum":
        return values.sum(axis=-1)
    if where is None:
        return values.mean(axis=-1)
    return values.sum(axis=-1) / jnp.maximum(where.sum(axis=-1, dtype=jnp.float32), 1)


def soften(logits: jax.Array, temperature: ArrayLike) -> jax.Array:
    """Returns logits / T; logits of -inf stay -inf and give T no gradient."""
    excluded = logits == -jnp.inf
    # An infinite quotient must not depend on T: its derivative with respect to T would be NaN.
    infinite = logits / jax.lax.stop_gradient(temperature)
    return jnp.where(excluded, infinite, jnp.where(excluded, 0, logits) / temperature)


def log_softmax(logits: jax.Array, temperature: ArrayLike, where: jax.Array | None) -> jax.Array:
    """Returns log softmax(logits / T); it is -inf for masked classes and for logits of -inf."""
    return jax.nn.log_softmax(exclude_masked(soften(logits, temperature), where))


def row_option(
    name: str,
    value: ArrayLike,
    rows: tuple[int, ...],
    expected: str,
    is_valid: Callable[[np.ndarray], np.ndarray],
) -> jax.Array:
    """Checks an option and returns it in float32: a scalar, or one value per row [...]."""
    checks.check_values(name, value, expected, is_valid)
    return checks.scalar_or_per_row(name, value, rows)


def positive_option(name: str, value: ArrayLike, rows: tuple[int, ...]) -> jax.Array:
    """Like `row_option`, for an option greater than 0, such as a temperature."""
    return row_option(
        name, value, rows, "finite values greater than 0", lambda x: (x > 0) & np.isfinite(x)
    )


def share_option(name: str, value: ArrayLike, rows: tuple[int, ...]) -> jax.Array:
    """Like `row_option`, for an option from 0 to 1, such as a share of a mixture."""
    return row_option(name, value, rows, "values from 0 to 1", lambda x: (x >= 0) & (x <= 1))


def factor_option(name: str, value: ArrayLike, rows: tuple[int, ...]) -> jax.Array:
    """Like `row_option`, for an option of at least 0, such as the factor of a part of a loss."""
    return row_option(
        name, value, rows, "finite values of at least 0", lambda x: (x >= 0) & np.isfinite(x)
    )


@dataclasses.dataclass(frozen=True)
class RowLabels:
    """The class index of each row, checked by `prepare_labels`.

    Attributes:
      indices: int32 [...]; 0 in place of indices out of range.
      ignored: whether a label is the `ignore_index`, bool [...]; None without an `ignore_index`.
      known: whether a label is in range or ignored, bool [...].
    """

    indices: jax.Array
    ignored: jax.Array | None
    known: jax.Array

    def is_label(self, classes: int) -> jax.Array:
        """Returns whether a class is the label of its row, bool [..., C]."""
        return jnp.arange(classes) == self.indices[..., None]

    def pick(self, values: jax.Array) -> jax.Array:
        """Returns the values [...] of the labels' classes from values [..., C]."""
        return jnp.take_along_axis(values, self.indices[..., None], axis=-1)[..., 0]

    def finish(self, values: jax.Array) -> jax.Array:
        """Sets values [...] to 0 for ignored labels, and to NaN for labels out of range."""
        if self.ignored is not None:
            values = jnp.where(self.ignored, 0, values)
        # The product makes the gradient NaN too: such a label must not train the network.
        return values * jnp.where(self.known, 1, jnp.nan)


def prepare_labels(
    labels: Array, logits: jax.Array, shape: tuple[int, ...], ignore_index: int | None
) -> RowLabels:
    """Checks class indices [...] for logits [..., C].

    Args:
      labels: the class indices.
      logits: the logits, with the classes on the last axis.
      shape: the shape of the logits that the caller gave, for the message.
      ignore_index: a label that marks rows without a loss, or None.

    Raises:
      ValueError: the labels are not integers, do not fit the logits, or one is out of range.
    """
    rows, classes = logits.shape[:-1], logits.shape[-1]
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels: expected integers, got {labels.dtype}")
    if labels.shape != rows:
        raise ValueError(f"labels: expected shape {rows} for logits {shape}, got {labels.shape}")
    checks.check_values(
        "labels",
        labels,
        f"class indices from 0 to {classes - 1}",
        lambda values: ((values >= 0) & (values < classes)) | (values == ignore_index),
        "mark masked positions with ignore_index",
    )
    labels = jnp.asarray(labels, jnp.int32)
    known = (labels >= 0) & (labels < classes)
    ignored = None if ignore_index is None else labels == ignore_index
    return RowLabels(
        indices=jnp.where(known, labels, 0),
        ignored=ignored,
        known=known if ignored is None else known | ignored,
    )
