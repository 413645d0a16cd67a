"""Divergences between softmax distributions, with exact derivatives, for the losses of logits.

The derivatives are written out: they need less memory than those that JAX derives, and they stay
finite where a probability is 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


@jax.custom_jvp
def kl_divergence(p_logits: jax.Array, q_logits: jax.Array, share: jax.Array | None) -> jax.Array:
    """Returns KL(p || m) with m = share p + (1 - share) q, [...]; None for m = q.

    The value is sum_c p_c (exp(d_c) - 1 - d_c) with d = log m - log p. It equals sum_c p_c (log p_c
    - log m_c), since p and m both sum to 1. No term is negative: no digits are lost when p and m
    are nearly equal.

    Args:
      p_logits: logits, or log-probabilities, of p, [..., C]; -inf for masked classes.
      q_logits: logits, or log-probabilities, of q, [..., C]; -inf for masked classes.
      share: the share of p in m, a scalar or one value per row [...]; or None.
    """
    return _terms(p_logits, q_logits, share)[-1]


def _terms(
    p_logits: jax.Array, q_logits: jax.Array, share: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns log p, log q, log m and d [..., C], and KL(p || m) [...]."""
    log_p, log_q = jax.nn.log_softmax(p_logits), jax.nn.log_softmax(q_logits)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    if share is None:
        log_m, m = log_q, q
    else:
        log_m = _log_mixture(log_p, log_q, share[..., None])
        m = share[..., None] * p + (1 - share[..., None]) * q
    # For p = 0 the term p (exp(d) - 1 - d) is m. There d is set to 0: 0 * inf would be NaN.
    possible = ~(p < jnp.finfo(p.dtype).tiny)
    d = jnp.where(possible, log_m, 0) - jnp.where(possible, log_p, 0)
    near = possible & (jnp.abs(d) < 0.1)
    e = jnp.where(near, d, 0)
    series = p * jnp.square(e) * (1 / 2 + e * (1 / 6 + e * (1 / 24 + e * (1 / 120 + e / 720))))
    return log_p, log_q, log_m, d, jnp.sum(jnp.where(near, series, m - p - p * d), axis=-1)


def _log_mixture(log_p: jax.Array, log_q: jax.Array, share: jax.Array) -> jax.Array:
    """Returns log(share p + (1 - share) q), also where both are 0, or too small for float32."""
    a, b = log_p + jnp.log(share), log_q + jnp.log1p(-share)
    larger = jnp.maximum(a, b)
    difference = jnp.where(larger == -jnp.inf, 0, jnp.minimum(a, b) - larger)
    # log1p takes several times as long, and its additional digits are lost in the sum.
    return larger + jnp.log(1 + jnp.exp(difference))


def _kl_divergence_jvp(
    primals: tuple[jax.Array, jax.Array, jax.Array | None],
    tangents: tuple[jax.Array, jax.Array, Any],
) -> tuple[jax.Array, jax.Array]:
    """Returns KL(p || m) and its derivative along the tangents of the logits and of the share.

    The derivatives are

        (1 - share) (q_c sum_k p_k q_k / m_k - p_c q_c / m_c)            in the logits of q
        share (p_c sum_k p_k^2 / m_k - p_c^2 / m_c) - p_c (d_c + KL)     in the logits of p
        sum_c p_c (q_c - p_c) / m_c                                      in the share
    """
    p_logits, q_logits, share = primals
    p_tangent, q_tangent, share_tangent = tangents
    log_p, log_q, log_m, d, value = _terms(p_logits, q_logits, share)
    p, q = jnp.exp(log_p), jnp.exp(log_q)

    def row_sum(values: jax.Array) -> jax.Array:
        return values.sum(axis=-1, keepdims=True)

    def over_mixture(log_x: jax.Array) -> jax.Array:
        """Returns p x / m, which is at most x / share, and at most p / (1 - share) for x = q."""
        return jnp.exp(jnp.where(log_m == -jnp.inf, -jnp.inf, log_p + log_x - log_m))

    tangent = jnp.zeros_like(value)
    if not isinstance(q_tangent, SymbolicZero):
        if share is None:
            slope = q - p
        else:
            pq_over_m = over_mixture(log_q)
            slope = (1 - share[..., None]) * (q * row_sum(pq_over_m) - pq_over_m)
        tangent += (slope * q_tangent).sum(axis=-1)
    if not isinstance(p_tangent, SymbolicZero):
        slope = -p * (d + value[..., None])
        if share is not None:
            pp_over_m = over_mixture(log_p)
            slope += share[..., None] * (p * row_sum(pp_over_m) - pp_over_m)
        tangent += (slope * p_tangent).sum(axis=-1)
    if share is not None and not isinstance(share_tangent, SymbolicZero):
        tangent += share_tangent * (over_mixture(log_q) - over_mixture(log_p)).sum(axis=-1)
    return value, tangent


kl_divergence.defjvp(_kl_divergence_jvp, symbolic_zeros=True)


def soft_cross_entropy(targets: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns -sum_c targets_c log softmax(z)_c, [...].

    Args:
      targets: [..., C], at least 0, of any sum. A target of 0 gives 0, also for a logit of -inf.
      logits: z, [..., C]; -inf for masked classes.
    """
    shifted = logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    log_sum = jnp.log(jnp.exp(shifted).sum(axis=-1))
    # A comparison with NaN is false: NaN stays NaN.
    possible = ~(targets < jnp.finfo(targets.dtype).tiny)
    products = jnp.where(possible, targets * jnp.where(possible, shifted, 0), 0)
    return targets.sum(axis=-1) * log_sum - products.sum(axis=-1)
