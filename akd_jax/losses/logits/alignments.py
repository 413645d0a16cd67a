"""Connectionist temporal classification: labels that are shorter than the frames they belong to."""

import jax
import jax.numpy as jnp
import optax

from akd_jax import checks
from akd_jax.losses.rows import row_weights
from akd_jax.types import UNLABELLED, Array


def ctc(
    student_logits: Array,
    labels: Array,
    *,
    mask: Array | None = None,
    weights: Array | None = None,
    blank: int = 0,
) -> jax.Array:
    """Returns -log of the probability of the labels, summed over all alignments with the frames.

        value = -log sum over alignments a of prod_t softmax(z_t)[a_t]

    An alignment has a class for each frame: a label or the blank. Without the blanks, and with runs
    of one label as one, it is the sequence of labels. Labels that need more frames than there are
    have no alignment, and the probability 0. Their value and gradient are 0 here, not infinite; set
    their weights to 0 by `ctc_alignable`, so that they do not count in the mean either.

    Source: Graves et al., "Connectionist Temporal Classification", ICML 2006,
    https://doi.org/10.1145/1143844.1143891.

    Args:
      student_logits: z, [B, T, C] for T frames.
      labels: classes other than the blank, int [B, N]. The blank and -100 are padding, which is
        only at the end of a row.
      mask: which frames are real, bool [B, T], padded at the end; None for all.
      weights: the weights of the rows, [B]; the values and gradients of rows of weight 0 are 0.
        None for 1.
      blank: the class of the blank.

    Returns:
      float32 [B], in nats. A traced label out of range gives NaN.

    Raises:
      ValueError: the logits, labels or weights are not of the same examples, the labels are not
        integers or one is out of range, or the mask does not fit the logits.
    """
    logits, labels = jnp.asarray(student_logits, jnp.float32), jnp.asarray(labels)
    if logits.ndim != 3 or labels.ndim != 2 or len(labels) != len(logits):
        raise ValueError(
            "ctc: expected logits [B, T, C] and labels [B, N] of the same examples, got shapes"
            f" {logits.shape} and {labels.shape}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels: expected integers, got {labels.dtype}")
    classes = logits.shape[-1]
    checks.check_values(
        "labels",
        labels,
        f"class indices from 0 to {classes - 1}",
        lambda x: ((x >= 0) & (x < classes)) | (x == UNLABELLED),
        f"mark padding by {UNLABELLED}",
    )
    if not 0 <= blank < classes:
        raise ValueError(f"blank: expected a class from 0 to {classes - 1}, got {blank}")
    frames = jnp.ones(logits.shape[:2], bool)
    if mask is not None:
        frames = checks.broadcast_mask("mask", mask, logits.shape[:2])
    is_label = _is_label(labels, blank)
    values = optax.ctc_loss(
        jnp.where(frames[..., None], logits, 0),  # Padding may hold infinite values.
        jnp.float32(~frames),
        jnp.where(is_label, labels, blank),
        jnp.float32(~is_label),
        blank_id=blank,
    )
    counts = ctc_alignable(labels, frames, blank=blank) & (row_weights(weights, len(logits)) > 0)
    is_known = ~is_label | ((labels >= 0) & (labels < classes))
    # The product makes the gradient NaN too: such a label must not train the network.
    return jnp.where(counts, values, 0) * jnp.where(is_known.all(axis=1), 1, jnp.nan)


def ctc_alignable(labels: Array, mask: Array, *, blank: int = 0) -> jax.Array:
    """Returns which sequences of labels have an alignment with their frames, bool [B].

    An alignment needs a frame for each label, and one for a blank between two equal labels.

    Args:
      labels: the labels, int [B, N], padded as for `ctc`.
      mask: which frames are real, bool [B, T].
      blank: the class of the blank.
    """
    labels = jnp.asarray(labels)
    is_label = _is_label(labels, blank)
    repeated = is_label[:, 1:] & (labels[:, 1:] == labels[:, :-1])
    return is_label.sum(axis=1) + repeated.sum(axis=1) <= jnp.asarray(mask).sum(axis=1)


def _is_label(labels: jax.Array, blank: int) -> jax.Array:
    """Returns which labels are not padding, bool [B, N]."""
    return (labels != UNLABELLED) & (labels != blank)
