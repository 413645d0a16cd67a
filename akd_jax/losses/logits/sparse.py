"""Losses against the k largest logits of a teacher, for vocabularies too large to store all logits.

`teacher_top_k` is a `TopK`, such as the outputs of a teacher that stores no other logits; or all of
the teacher's logits [..., C], of which the `top_k` largest are taken. Both have the same values.
All losses compute in float32. The teacher gets no gradient.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax import checks
from akd_jax.losses.logits.class_axis import positive_option, soften
from akd_jax.losses.logits.probabilities import kl_divergence
from akd_jax.types import Array, TopK

Tail = Literal["bin", "drop", "renormalise"]


def top_k_kl(
    student_logits: Array,
    teacher_top_k: TopK | Array,
    *,
    temperature: ArrayLike = 1.0,
    tail: Tail = "bin",
    scale: bool = True,
    top_k: int = 0,
) -> jax.Array:
    """Returns the KL divergence of student and teacher over the teacher's k largest logits.

    p and q are the probabilities of teacher and student at the temperature T over all classes, K is
    the teacher's k largest classes, and P and Q are the sums of p and q over K.

        bin:          sum_K p_c log(p_c / q_c) + (1 - P) log((1 - P) / (1 - Q))
        drop:         sum_K p_c log(p_c / q_c)
        renormalise:  sum_K (p_c / P) log((p_c / P) / (q_c / Q))

    If K has all classes, each of them is the dense `kl`. 'bin' counts all other classes as one. It
    is never negative and at most the dense KL, and it also trains the student's mass outside of K.
    'drop' is not a divergence: it is negative if the student has more mass on K than the teacher,
    and it rewards that. 'renormalise' gives no gradient outside of K, and thus needs a second loss,
    such as the cross-entropy.

    A `TopK` holds the teacher's mass outside of K at T = 1 only. For another T, 'bin' and 'drop'
    need all logits of the teacher, or the k largest of z_t / T: T^2 times
    top_k_kl(z_s / T, TopK.of(z_t / T, k)). For T > 1, the other classes would have too little mass
    if they were treated as one class, and too much as equal classes: no estimate is made.

    The published codes differ: MaxText and tunix renormalise, TRL adds a bin, and verl drops.

    Source: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs",
    ACL 2025, https://arxiv.org/abs/2503.16870, for the bias of dropped classes.

    Args:
      student_logits: z_s, [..., C].
      teacher_top_k: the teacher's largest logits, a `TopK` [..., k], or all logits [..., C].
      temperature: the softmax temperature T > 0, a scalar or one value per row [...].
      tail: the classes outside of the k largest: 'bin' counts them as one class, 'drop' leaves them
        out, and 'renormalise' leaves them out of the sum of the probabilities, too.
      scale: whether the loss has the factor T^2, which keeps the size of its gradient.
      top_k: number of the teacher's largest logits that count; 0 for all that are given.

    Returns:
      float32 [...], in nats.

    Raises:
      ValueError: the logits are not of the same rows and classes, an option is out of range, or the
        teacher's mass outside of K is unknown.
    """
    if tail not in ("bin", "drop", "renormalise"):
        raise ValueError(f"tail: expected 'bin', 'drop' or 'renormalise', got {tail!r}")
    rows, classes = jnp.shape(student_logits)[:-1], jnp.shape(student_logits)[-1]
    stored = isinstance(teacher_top_k, TopK)
    factor = positive_option("temperature", temperature, rows)
    divisor = factor[..., None]
    teacher = largest_logits(student_logits, teacher_top_k, top_k, divisor)
    if teacher.values.shape[-1] == classes:
        tail = "renormalise"  # There is no tail, and this form needs no other sum.
    if stored and tail != "renormalise":
        _check_is_one(temperature, tail)
    student = jnp.asarray(student_logits, jnp.float32)
    chosen = soften(jnp.take_along_axis(student, teacher.indices, axis=-1), divisor)
    if tail == "renormalise":
        values = kl_divergence(teacher.values, chosen, None)
    elif tail == "bin":
        with_tail = _with_tail(soften(student, divisor), chosen, teacher.indices)
        values = kl_divergence(_with_tail_of(teacher), with_tail, None)
    else:
        log_p = teacher.values - teacher.log_sum_exp[..., None]
        log_q = chosen - jax.nn.logsumexp(soften(student, divisor), axis=-1, keepdims=True)
        values = _sum_of_log_ratios(log_p, log_q)
    return factor**2 * values if scale else values


def largest_logits(
    student_logits: Array, teacher: TopK | Array, top_k: int, temperature: ArrayLike = 1.0
) -> TopK:
    """Returns the k largest logits of the teacher in float32, divided by T, without a gradient.

    The sum over all logits of a `TopK` stays that of T = 1.

    Raises:
      ValueError: the logits are not of the student's rows and classes, or k is out of range.
    """
    checks.check_values("top_k", top_k, "at least 0", lambda k: k >= 0)
    rows, classes = jnp.shape(student_logits)[:-1], jnp.shape(student_logits)[-1]
    if isinstance(teacher, TopK):
        shapes = jnp.shape(teacher.values), jnp.shape(teacher.indices)
        k = shapes[0][-1] if shapes[0] else 0
        if shapes != ((*rows, k),) * 2 or not 0 < k <= classes:
            raise ValueError(
                f"teacher_top_k: expected values and indices of 1 to {classes} classes for each of"
                f" the rows {rows}, got shapes {shapes[0]} and {shapes[1]}"
            )
        if jnp.shape(teacher.log_sum_exp) != rows:
            raise ValueError(
                f"teacher_top_k: expected one log_sum_exp for each of the rows {rows}, got shape"
                f" {jnp.shape(teacher.log_sum_exp)}"
            )
        checks.check_values(
            "teacher_top_k.indices",
            teacher.indices,
            f"classes from 0 to {classes - 1}",
            lambda indices: (indices >= 0) & (indices < classes),
        )
        k = min(k, top_k or k)
        # The values are in decreasing order.
        largest = TopK(
            soften(jnp.asarray(teacher.values, jnp.float32)[..., :k], temperature),
            jnp.asarray(teacher.indices, jnp.int32)[..., :k],
            jnp.asarray(teacher.log_sum_exp, jnp.float32),
        )
    elif jnp.shape(teacher) != (*rows, classes):
        raise ValueError(
            f"teacher_top_k: expected the student's shape {(*rows, classes)} of all logits, or a"
            f" TopK, got {jnp.shape(teacher)}"
        )
    else:
        logits = soften(jnp.asarray(teacher, jnp.float32), temperature)
        largest = TopK.of(logits, min(classes, top_k or classes))
    return jax.lax.stop_gradient(largest)


def _check_is_one(temperature: ArrayLike, tail: str) -> None:
    """Raises ValueError if a temperature is not 1, or not known while a program is compiled."""
    expected = f"1 for the tail {tail!r} of a TopK, whose sum over all classes is that of T = 1"
    remedy = "use tail='renormalise', or a teacher that returns all logits"
    if isinstance(temperature, jax.core.Tracer):
        raise ValueError(f"temperature: expected {expected}, got a traced value; {remedy}")
    checks.check_values("temperature", temperature, expected, lambda t: t == 1, remedy)


def _with_tail_of(teacher: TopK) -> jax.Array:
    """Returns log-probabilities [..., k + 1] of the teacher; the last is that of other classes."""
    mass = jax.nn.logsumexp(teacher.values, axis=-1)
    # Values that were rounded to bfloat16 can have more mass than the total.
    total = jnp.maximum(mass, teacher.log_sum_exp)
    rest = -jnp.expm1(mass - total)
    log_rest = jnp.where(rest > 0, jnp.log(jnp.where(rest > 0, rest, 1)), -jnp.inf)
    return jnp.concatenate([teacher.values - total[..., None], log_rest[..., None]], axis=-1)


def _with_tail(student: jax.Array, chosen: jax.Array, indices: jax.Array) -> jax.Array:
    """Returns log-probabilities [..., k + 1] of the student; the last is that of other classes.

    1 - sum of the others would lose all digits if the other classes have little mass.
    """
    inside = jnp.zeros(student.shape, bool)
    inside = jnp.put_along_axis(inside, indices, True, axis=-1, inplace=False)
    others = jnp.where(inside, -jnp.inf, student)
    largest = jax.lax.stop_gradient(others.max(axis=-1, keepdims=True))
    possible = largest != -jnp.inf
    # The logsumexp of JAX takes another pass, and has a NaN gradient for a sum over no class.
    total = jnp.exp(others - jnp.where(possible, largest, 0)).sum(axis=-1, keepdims=True)
    rest = jnp.where(possible, jnp.log(jnp.where(possible, total, 1)) + largest, -jnp.inf)
    return jax.nn.log_softmax(jnp.concatenate([chosen, rest], axis=-1))


def _sum_of_log_ratios(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Returns sum_c p_c (log p_c - log q_c), [...]; classes with p = 0 contribute 0."""
    p = jnp.exp(log_p)
    possible = p > 0
    ratios = jnp.where(possible, log_p, 0) - jnp.where(possible, log_q, 0)
    return jnp.sum(p * ratios, axis=-1)
