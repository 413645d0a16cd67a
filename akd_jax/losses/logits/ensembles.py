"""The average of several teachers as one teacher."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax import checks
from akd_jax.losses.logits.class_axis import positive_option
from akd_jax.types import Array

Average = Literal["probabilities", "logits"]


def average_teachers(
    teacher_logits: Array,
    weights: Array | None = None,
    *,
    temperature: ArrayLike = 1.0,
    average: Average = "probabilities",
) -> jax.Array:
    """Returns the logits of an average of K teachers, as the teacher's logits of other losses.

    With weights w_k that sum to 1, the average of probabilities is

        softmax(z / T) = sum_k w_k softmax(z_k / T)

    and the average of logits is z = sum_k w_k z_k, which a regression always uses.

    Source: You et al., "Learning from Multiple Teacher Networks", KDD 2017,
    https://doi.org/10.1145/3097983.3098135, and Fukuda et al., "Efficient Knowledge Distillation
    from an Ensemble of Teachers", Interspeech 2017, https://doi.org/10.21437/Interspeech.2017-614.

    Args:
      teacher_logits: z_k, [K, ..., C].
      weights: one weight per teacher, [K], or per row and teacher, [..., K]; at least 0 each, and
        not all 0. They are divided by their sum. None weights all teachers equally.
      temperature: T > 0 of the probabilities, a scalar or one value per row [...]; the loss that
        reads the result must use the same.
      average: whether probabilities or logits are averaged.

    Returns:
      float32 [..., C], without a gradient.

    Raises:
      ValueError: the weights are not those of K teachers, a concrete weight is below 0, all are 0,
        the temperature is not positive, or `average` is unknown.
    """
    logits = jax.lax.stop_gradient(jnp.asarray(teacher_logits, jnp.float32))
    if weights is not None:
        checks.check_values(
            "weights",
            weights,
            "weights of at least 0 that are not all 0",
            lambda x: (x >= 0) & (x > 0).any(axis=-1, keepdims=True),
        )
    teachers, *rows, classes = logits.shape
    weights = jnp.ones(teachers) if weights is None else jnp.asarray(weights, jnp.float32)
    if weights.shape not in ((teachers,), (*rows, teachers)):
        raise ValueError(
            f"weights: expected shape ({teachers},) or {(*rows, teachers)} for {teachers} teachers,"
            f" got {weights.shape}"
        )
    if average not in ("probabilities", "logits"):
        raise ValueError(f"average: expected 'probabilities' or 'logits', got {average!r}")
    shares = jnp.broadcast_to(weights / weights.sum(axis=-1, keepdims=True), (*rows, teachers))
    shares = jax.lax.stop_gradient(jnp.moveaxis(shares, -1, 0))[..., None]  # [K, ..., 1]
    if average == "logits" or classes == 1:
        return jnp.where(shares > 0, shares * logits, 0).sum(axis=0)
    t = positive_option("temperature", temperature, tuple(rows))[..., None]
    # A teacher of weight 0 gets -inf, so that its probabilities do not count.
    log_shares = jnp.where(shares > 0, jnp.log(jnp.where(shares > 0, shares, 1)), -jnp.inf)
    return t * jax.nn.logsumexp(jax.nn.log_softmax(logits / t) + log_shares, axis=0)
