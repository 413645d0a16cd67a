"""Losses of the order of the teacher's k largest logits, by pairs of classes.

`teacher_top_k` is that of `akd_jax.losses.logits.sparse`. All losses compute in float32. The
teacher gets no gradient.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import factor_option
from akd_jax.losses.logits.sparse import largest_logits
from akd_jax.types import Array, TopK


def hinge_ranking(
    student_logits: Array,
    teacher_top_k: TopK | Array,
    *,
    margin: ArrayLike = 1.0,
    top_k: int = 10,
) -> jax.Array:
    """Returns the hinge loss of the pairs of classes that the teacher orders.

        loss = mean over pairs i, j with z_t,i > z_t,j of max(0, margin - (z_s,i - z_s,j))

    The pairs are those of the teacher's k largest classes. The loss is 0 if the student orders all
    of them by at least the margin: it trains the order of the classes, not their probabilities.
    Classes with equal logits of the teacher, and logits of -inf, form no pair. DistillKit compares
    probabilities instead of logits, and takes the mean over all pairs of a batch.

    Source: Herbrich et al., "Large Margin Rank Boundaries for Ordinal Regression", Advances in
    Large Margin Classifiers, 2000.

    Args:
      student_logits: z_s, [..., C].
      teacher_top_k: the teacher's largest logits, a `TopK` [..., k], or all logits [..., C].
      margin: difference of ordered logits at which the loss ends, at least 0, a scalar or [...].
      top_k: number of the teacher's largest logits that form pairs, whose memory is its square per
        row; 0 for all that are given.

    Returns:
      float32 [...], in logits; 0 for a row without a pair.

    Raises:
      ValueError: the logits are not of the same rows and classes, or an option is out of range.
    """
    margin = factor_option("margin", margin, jnp.shape(student_logits)[:-1])
    differences, ordered = _pairs(student_logits, teacher_top_k, top_k)
    return _mean_of_pairs(jax.nn.relu(margin[..., None, None] - differences), ordered)


def logistic_ranking(
    student_logits: Array, teacher_top_k: TopK | Array, *, top_k: int = 10
) -> jax.Array:
    """Returns the logistic loss of the pairs of classes that the teacher orders (RankNet).

        loss = mean over pairs i, j with z_t,i > z_t,j of log(1 + exp(-(z_s,i - z_s,j)))

    It is the smooth form of `hinge_ranking`, with the same pairs, and never 0: even pairs in the
    right order are pushed apart. DistillKit takes the mean over all pairs of a batch instead of
    those of a row.

    Source: Burges et al., "Learning to Rank using Gradient Descent", ICML 2005.

    Args:
      student_logits: z_s, [..., C].
      teacher_top_k: the teacher's largest logits, a `TopK` [..., k], or all logits [..., C].
      top_k: number of the teacher's largest logits that form pairs, whose memory is its square per
        row; 0 for all that are given.

    Returns:
      float32 [...], in nats; 0 for a row without a pair.

    Raises:
      ValueError: the logits are not of the same rows and classes, or an option is out of range.
    """
    differences, ordered = _pairs(student_logits, teacher_top_k, top_k)
    # The softplus of -d. At d = 0 the gradients of maximum and minimum are means of both sides, so
    # that it is exact there; that of jnp.abs is 1.
    opposite = -differences
    values = jnp.maximum(opposite, 0) + jnp.log1p(jnp.exp(jnp.minimum(differences, opposite)))
    return _mean_of_pairs(values, ordered)


def _pairs(
    student_logits: Array, teacher_top_k: TopK | Array, top_k: int
) -> tuple[jax.Array, jax.Array]:
    """Returns z_s,i - z_s,j [..., k, k], and whether the teacher orders i before j."""
    teacher = largest_logits(student_logits, teacher_top_k, top_k)
    student = jnp.asarray(student_logits, jnp.float32)
    chosen = jnp.take_along_axis(student, teacher.indices, axis=-1)
    finite = (chosen != -jnp.inf) & (teacher.values != -jnp.inf)
    chosen = jnp.where(finite, chosen, 0)
    ordered = teacher.values[..., :, None] > teacher.values[..., None, :]
    ordered &= finite[..., :, None] & finite[..., None, :]
    return chosen[..., :, None] - chosen[..., None, :], ordered


def _mean_of_pairs(values: jax.Array, ordered: jax.Array) -> jax.Array:
    """Returns the mean over the ordered pairs [..., k, k]; 0 if there is none."""
    count = ordered.sum(axis=(-2, -1), dtype=jnp.float32)
    return jnp.where(ordered, values, 0).sum(axis=(-2, -1)) / jnp.maximum(count, 1)
