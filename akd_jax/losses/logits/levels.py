"""Multi-level logit distillation (MLKD): predictions compared per example, batch and class."""

import functools

import jax
import jax.numpy as jnp

from akd_jax.losses.logits.class_axis import prepare_pair
from akd_jax.losses.logits.probabilities import kl_divergence
from akd_jax.losses.rows import gather_rows, row_weights
from akd_jax.types import Array

_TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def multi_level(
    student_logits: Array,
    teacher_logits: Array,
    *,
    masks: bool = True,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the differences of predictions at the levels of example, batch and class (MLKD).

        example = mean over i of T^2 KL(p_i || q_i)
        batch   = ||P P^T - Q Q^T||^2 / B
        class   = ||P^T P - Q^T Q||^2 / C
        loss    = sum over T = 2, 3, 4, 5, 6 of example + batch + class

    P and Q are the matrices [B, C] of the probabilities of teacher and student at temperature T,
    with rows p_i and q_i. The masks keep the rows i at the levels of example and batch, and the
    rows of P^T P and Q^T Q at the level of classes, about which the teacher is unsure: the largest
    probability of an example, and the sum of the probabilities of a class over the batch, at
    temperature 1, are at most their median. The mean of the values is the loss of the batch: the
    value of an example holds its terms of the sums.

    The method uses two views of each image, a weakly and a strongly augmented one. Add the losses
    of both views, and a cross-entropy of each. The weight of the authors' code is 0.9 for this
    loss, and 0.1 for the cross-entropies. The published results come from that code, which differs:
    it averages each level before it applies the masks, which then only scale it by about 1/2; it
    takes the logits of the weak view at the temperatures 2 and 6 for the strong view; and of the
    strong view, which has no masks, it adds the level of examples only.

    With `axis_name`, the batch is that of all devices.

    Source: Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023,
    https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html.

    Args:
      student_logits: z_s, [B, C].
      teacher_logits: z_t, [B, C].
      masks: whether to leave out the examples and classes about which the teacher is sure.
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the logits are not two matrices of the same shape, or the weights do not fit them.
    """
    student, teacher, _ = prepare_pair(student_logits, teacher_logits, -1, None)
    if student.ndim != 2:
        raise ValueError(
            f"student_logits: expected shape [B, C], got {student.shape}; flatten the rows"
        )
    weights = row_weights(weights, len(student))
    (all_weights,) = gather_rows((weights,), axis_name)
    unsure_rows, unsure_classes = (
        _unsure(jax.nn.softmax(teacher), all_weights, axis_name)
        if masks
        else (jnp.ones(len(student)), jnp.ones(student.shape[1]))
    )

    # Only the products of rows are kept for the backward pass; the matrices [B, C] are recomputed.
    @functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    def add(total: jax.Array, temperature: jax.Array) -> tuple[jax.Array, None]:
        q_logits, p_logits = student / temperature, teacher / temperature
        of_rows, of_classes = _matrices(
            jnp.exp(jax.nn.log_softmax(p_logits)),
            jnp.exp(jax.nn.log_softmax(q_logits)),
            all_weights,
            unsure_classes,
            axis_name,
        )
        divergences = temperature**2 * kl_divergence(p_logits, q_logits, None)
        return total + unsure_rows * (divergences + of_rows) + of_classes, None

    total, _ = jax.lax.scan(add, jnp.zeros(len(student)), jnp.array(_TEMPERATURES))
    return total


def _unsure(
    p: jax.Array, all_weights: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Returns which rows [B] and classes [C] of the teacher count: 1 or 0, in float32."""
    confidence = p.max(axis=1)
    all_p, all_confidence = gather_rows((p, confidence), axis_name)
    rows = confidence <= _median(all_confidence, all_weights)
    totals = (all_weights[:, None] * all_p).sum(axis=0)
    classes = totals <= jnp.median(totals)
    return rows.astype(jnp.float32), classes.astype(jnp.float32)


def _median(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the median of values [B], each counted as often as its weight says."""
    order = jnp.argsort(values)
    below = jnp.cumsum(weights[order])
    half = below[-1] / 2
    lower, upper = (values[order][jnp.argmax(x)] for x in (below >= half, below > half))
    return (lower + upper) / 2


def _matrices(
    p: jax.Array,
    q: jax.Array,
    all_weights: jax.Array,
    unsure_classes: jax.Array,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the parts of the rows [B] in the levels of batch and class.

    With E = Q - P the differences are Q Q^T - P P^T = P E^T + E P^T + E E^T and Q^T Q - P^T P =
    P^T E + E^T Q. These sums lose no digits when P and Q are nearly equal. The squared norm of the
    second one, whose rows are masked, follows from products of rows: no matrix [C, C] is needed.
    """
    all_p, all_q = gather_rows((p, q), axis_name)
    error, all_error = q - p, all_q - all_p

    def products(rows: jax.Array, columns: jax.Array) -> jax.Array:
        return jnp.einsum("ic,jc->ij", rows, columns, precision=jax.lax.Precision.HIGHEST)

    p_unsure, error_unsure = p * unsure_classes, error * unsure_classes
    error_error, p_error = products(error, all_error), products(p, all_error)
    error_p = p_error.T if axis_name is None else products(error, all_p)
    error_q = error_p + error_error
    difference = p_error + error_q
    of_classes = (
        products(p_unsure, all_p) * error_error
        + products(error_unsure, all_error) * (products(p, all_p) + difference)
        + 2 * products(p_unsure, all_error) * error_q
    )
    factor = all_weights.sum() / p.shape[1]
    return jnp.square(difference) @ all_weights, factor * (of_classes @ all_weights)
