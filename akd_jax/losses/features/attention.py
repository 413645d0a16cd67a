"""Losses of self-attention: scores, and relations between the queries, keys or values of a text.

Student and teacher read the same texts: B texts of L tokens, which both networks tokenise in the
same way. Their attention has heads of width d. The features are those of `Encoder`, such as
'attention_12' and 'value_12'. Padding counts neither as a query nor as a key. All losses compute in
float32. The teacher's features get no gradient.
"""

import math

import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.features.preparation import prepare_features
from akd_jax.losses.logits.divergences import kl
from akd_jax.losses.rows import masked_mean
from akd_jax.types import Array


def attention_mse(
    student_features: Array, teacher_features: Array, *, mask: Array | None = None
) -> jax.Array:
    """Returns the mean squared error of attention scores before the softmax (TinyBERT).

        value = mean over the heads, queries i and keys j of (A_s - A_t)_hij^2

    The mean runs over the pairs of real tokens of a text. The authors add this loss, of weight 1,
    over the pairs of `layer_map`, together with `HiddenStates`. Their code sets scores of padding
    to 0, and divides by the number of all pairs.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings
    of EMNLP 2020, https://arxiv.org/abs/1909.10351.

    Args:
      student_features: A_s, attention scores [B, heads, L, L].
      teacher_features: A_t, of the same shape.
      mask: which positions hold a token, bool [B, L]; None for all positions.

    Returns:
      float32 [B]; 0 for a text without a token.

    Raises:
      ValueError: the features are not scores of the same number of heads, or the mask does not fit.
    """
    student, teacher = _prepare_scores(student_features, teacher_features)
    tokens = _tokens(mask, student)
    pairs = tokens[:, :, None] & tokens[:, None, :]
    errors = jnp.square(jnp.where(pairs[:, None], student - teacher, 0))
    return jax.vmap(masked_mean)(errors.mean(axis=1), pairs)


def attention_kl(
    student_features: Array, teacher_features: Array, *, mask: Array | None = None
) -> jax.Array:
    """Returns the KL divergence of attention probabilities, the first term of `MiniLM`.

        value = mean over the heads and queries i of KL(softmax_j(A_t)_hij || softmax_j(A_s)_hij)

    The softmax runs over the keys j. Queries and keys are the real tokens of a text.

    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers", NeurIPS 2020, https://arxiv.org/abs/2002.10957.

    Args:
      student_features: A_s, attention scores before the softmax [B, heads, L, L].
      teacher_features: A_t, of the same shape.
      mask: which positions hold a token, bool [B, L]; None for all positions.

    Returns:
      float32 [B], in nats; 0 for a text without a token.

    Raises:
      ValueError: the features are not scores of the same number of heads, or the mask does not fit.
    """
    student, teacher = _prepare_scores(student_features, teacher_features)
    return _mean_kl(student, teacher, mask)


def relation_kl(
    student_features: Array,
    teacher_features: Array,
    *,
    relation_heads: int = 0,
    mask: Array | None = None,
) -> jax.Array:
    """Returns the KL divergence of the relations between the tokens of a text.

        R = softmax(X X^T / sqrt(d))
        value = mean over the heads and queries of KL(R_t || R_s)

    X [L, d] are the values of a head for `MiniLM`; the queries, the keys and the values for
    `MiniLMv2`. The heads of student and teacher may differ in width. With `relation_heads`, the
    heads of each network are concatenated and split again, so that their number may differ, too.

    Source: Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing
    Pretrained Transformers", Findings of ACL 2021, https://arxiv.org/abs/2012.15828.

    Args:
      student_features: X of the student, vectors [B, L, heads, d], or tokens [B, L, D] as one head.
      teacher_features: X of the teacher, of the same texts.
      relation_heads: number of heads into which the vectors of a token are split again, a divisor
        of the width of both networks; 0 for the heads of the features.
      mask: which positions hold a token, bool [B, L]; None for all positions.

    Returns:
      float32 [B], in nats; 0 for a text without a token.

    Raises:
      ValueError: the features are not of the same texts, their numbers of heads differ or cannot be
        changed to `relation_heads`, or the mask does not fit.
    """
    student, teacher = (
        _split_heads(features, relation_heads)
        for features in prepare_features(student_features, teacher_features)
    )
    if student.shape[:3] != teacher.shape[:3]:
        raise ValueError(
            "features: expected vectors [B, L, heads, d] of the same texts and number of heads, got"
            f" shapes {student.shape} and {teacher.shape}; set relation_heads or choose other"
            " layers"
        )
    return _mean_kl(_self_scores(student), _self_scores(teacher), mask)


def _prepare_scores(
    student_features: Array, teacher_features: Array
) -> tuple[jax.Array, jax.Array]:
    student, teacher = prepare_features(student_features, teacher_features)
    if student.shape != teacher.shape or student.ndim != 4 or student.shape[2] != student.shape[3]:
        raise ValueError(
            "features: expected attention scores [B, heads, L, L] of the same texts and number of"
            f" heads, got shapes {student.shape} and {teacher.shape}; choose other layers"
        )
    return student, teacher


def _split_heads(features: jax.Array, relation_heads: int) -> jax.Array:
    """Returns vectors [B, L, heads, d]."""
    checks.check_values("relation_heads", relation_heads, "at least 0", lambda x: x >= 0)
    if features.ndim not in (3, 4):
        raise ValueError(
            "features: expected vectors [B, L, heads, d] or tokens [B, L, D], got shape"
            f" {features.shape}; choose other layers"
        )
    if not relation_heads:
        return features if features.ndim == 4 else features[:, :, None]
    width = math.prod(features.shape[2:])
    if width % relation_heads:
        raise ValueError(
            f"relation_heads: expected a divisor of the width {width}, got {relation_heads};"
            " choose another number"
        )
    return features.reshape(*features.shape[:2], relation_heads, -1)


def _self_scores(vectors: jax.Array) -> jax.Array:
    """Returns x . y / sqrt(d) of the pairs of tokens [B, heads, L, L]."""
    products = jnp.einsum("bqhd,bkhd->bhqk", vectors, vectors, precision=jax.lax.Precision.HIGHEST)
    return products / math.sqrt(vectors.shape[-1])


def _mean_kl(student: jax.Array, teacher: jax.Array, mask: Array | None) -> jax.Array:
    """Returns the mean KL divergence of scores [B, heads, L, L] over heads and real queries."""
    tokens = _tokens(mask, student)
    pairs = tokens[:, None, :, None] & tokens[:, None, None, :]
    values = kl(student, teacher, temperature=1.0, where=pairs)
    return jax.vmap(masked_mean)(values.mean(axis=1), tokens)


def _tokens(mask: Array | None, scores: jax.Array) -> jax.Array:
    """Returns which positions of scores [B, heads, L, L] hold a token, bool [B, L]."""
    shape = (scores.shape[0], scores.shape[3])
    return checks.broadcast_mask("mask", jnp.bool(True) if mask is None else mask, shape)
