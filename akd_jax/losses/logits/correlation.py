"""The loss of DIST: correlations between the predictions of student and teacher."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from akd_jax.losses.logits.class_axis import factor_option, positive_option, prepare_pair, soften
from akd_jax.losses.rows import row_weights, sum_devices
from akd_jax.types import Array

_EPSILON = 1e-8  # Added to a product of norms, as in the authors' code.
_ROUNDING = 1e-12  # A variance up to this part of the squared mean comes from rounding.


def dist(
    student_logits: Array,
    teacher_logits: Array,
    temperature: ArrayLike = 1.0,
    *,
    inter: ArrayLike = 1.0,
    intra: ArrayLike = 1.0,
    weights: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the differences of predictions up to scale and shift, per example and class (DIST).

        loss = T^2 (inter (1 - mean over i of r(p_i, q_i)) + intra (1 - mean over c of r(p_c, q_c)))

    p = softmax(z_t / T) and q = softmax(z_s / T) are matrices [B, C] with rows p_i and columns p_c.
    r is Pearson's correlation: over the classes of an example, and over the examples of a batch.
    The loss is the same for probabilities that are mixed with a uniform distribution. The mean of
    the values is this loss: the value of an example holds its own terms of the sums in r(p_c, q_c).

    The usual weight is 1, next to a cross-entropy of weight 1. The authors use temperature 1, for
    which the factor T^2, from later codes, is 1. The correlation of two constant vectors, such as
    those of a single example, is 1 here and 0 in published codes; in both, the correlation of a
    constant vector with another one is 0. Such correlations have no gradient.

    With `axis_name`, the batch is that of all devices.

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
    https://arxiv.org/abs/2205.10536.

    Args:
      student_logits: z_s, [B, C].
      teacher_logits: z_t, [B, C].
      temperature: the softmax temperature T > 0, a scalar.
      inter: the factor of the correlations over the classes, beta in the paper, a scalar.
      intra: the factor of the correlations over the examples, gamma in the paper, a scalar.
      weights: the weights of the examples, [B]; None for 1.
      axis_name: the axis of the devices whose examples belong to the batch; None for one device.

    Returns:
      float32 [B].

    Raises:
      ValueError: the logits are not two matrices of the same shape, the weights do not fit them, or
        an option is not a scalar or out of range.
    """
    student, teacher, _ = prepare_pair(student_logits, teacher_logits, -1, None)
    if student.ndim != 2:
        raise ValueError(
            f"student_logits: expected shape [B, C], got {student.shape}; flatten the rows"
        )
    temperature = positive_option("temperature", temperature, ())
    inter, intra = factor_option("inter", inter, ()), factor_option("intra", intra, ())
    mean = 1 / student.shape[1]  # The mean of probabilities over the classes.
    a, b = (jax.nn.softmax(soften(z, temperature)) - mean for z in (student, teacher))
    between_classes = 1 - _class_correlations(a, b)
    between_rows = 1 - _row_correlation_parts(a, b, row_weights(weights, len(a)), axis_name)
    return temperature**2 * (inter * between_classes + intra * between_rows)


def _class_correlations(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the correlations of the rows of a and b, whose means are 0, [B]."""
    square_a, square_b, products = (
        values.sum(axis=1) for values in (jnp.square(a), jnp.square(b), a * b)
    )
    smallest = _ROUNDING / a.shape[1]
    inverse, both_constant = _inverse_norms(square_a, square_b, smallest, smallest)
    return jnp.where(both_constant, 1, products * inverse)


def _row_correlation_parts(
    a: jax.Array, b: jax.Array, weights: jax.Array, axis_name: str | None
) -> jax.Array:
    """Returns parts [B] whose weighted mean is the mean of the correlations of the columns.

    The correlations are over the rows of positive weight on all devices. The columns are those of
    probabilities minus 1 / C.
    """

    def sums(values: jax.Array) -> jax.Array:
        """Returns the weighted sums [C] over the rows."""
        total = jnp.einsum("b,bc->c", weights, values, precision=jax.lax.Precision.HIGHEST)
        return sum_devices(total, axis_name)

    count = sum_devices(weights.sum(), axis_name)
    divisor = jnp.where(count > 0, count, 1)
    mean_a, mean_b = sums(a) / divisor, sums(b) / divisor
    a, b = a - mean_a, b - mean_b
    smallest_a, smallest_b = (
        _ROUNDING * divisor * jnp.square(jnp.abs(mean) + 1 / a.shape[1])
        for mean in (mean_a, mean_b)
    )
    inverse, both_constant = _inverse_norms(
        sums(jnp.square(a)), sums(jnp.square(b)), smallest_a, smallest_b
    )
    products = jnp.einsum("bc,c->b", a * b, inverse, precision=jax.lax.Precision.HIGHEST)
    return divisor * products / a.shape[1] + both_constant.mean(dtype=jnp.float32)


def _inverse_norms(
    square_a: jax.Array, square_b: jax.Array, smallest_a: ArrayLike, smallest_b: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Returns 1 / (||a|| ||b||), and whether both vectors are constant.

    The inverse is 0 without a gradient if a vector is constant: its squared norm is at most the
    smallest one, which rounding can cause.
    """
    # A comparison with NaN is false: NaN stays NaN.
    varies_a, varies_b = ~(square_a <= smallest_a), ~(square_b <= smallest_b)
    # The derivative of the square root at 0 is infinite; times 0 it would be NaN.
    norm_a, norm_b = (
        jnp.sqrt(jnp.where(varies, square, 1))
        for varies, square in ((varies_a, square_a), (varies_b, square_b))
    )
    inverse = jnp.where(varies_a & varies_b, 1 / (norm_a * norm_b + _EPSILON), 0)
    return inverse, ~(varies_a | varies_b)
