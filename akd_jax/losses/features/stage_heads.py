"""OFA-KD: classifiers on several layers of the student learn the teacher's logits."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import Layers, layer_names, value_weights
from akd_jax.losses.logits.soft_targets import ofa
from akd_jax.types import Batch, Clock, Outputs, Term

FINAL = "logits"  # The term of the student's own logits.


class OFA(nn.Module):
    """The loss `ofa` of the student's logits, and of those of a classifier on each layer (OFA-KD).

        value = ofa(z_s, z_t, y) + sum_i ofa(W_i mean(F_i) + b_i, z_t, y)

    mean(F_i) is the mean of a layer over its pixels or its tokens. The teacher may be of another
    kind than the student, since only its logits are read. The terms have the names of the layers,
    and 'logits' for z_s. The usual weight is 1, next to a cross-entropy of weight 1. In the
    published code, convolutions or transformer blocks are in front of the mean.

    The classifiers are trained with the student and belong to the loss.

    Source: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in
    Knowledge Distillation", NeurIPS 2023, https://arxiv.org/abs/2310.19444.

    Attributes:
      layers: the names of the student's features: maps [B, H, W, C], tokens [B, L, D] or vectors
        [B, D]. Of a pair of names, the second one is not read.
      teacher: the name of the teacher.
      exponent: the exponent of the targets of `ofa`, above 0; 1 on CIFAR, 1 to 1.5 on ImageNet.
      final_logits: whether the student's own logits get a term.
    """

    layers: tuple[Layers, ...] = ("group_1", "group_2", "group_3")
    teacher: str = "teacher"
    exponent: float = 1.0
    final_logits: bool = True

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
    ) -> Mapping[str, Term]:
        """Returns a term for each layer and for the logits: values per example [B].

        Raises:
          ValueError: there is no layer, a layer has another shape, or the exponent is not positive.
        """
        del clock
        if not self.layers:
            raise ValueError("OFA: expected at least one layer, got none; set layers")
        teacher_logits = teachers[self.teacher].logits
        classes = teacher_logits.shape[-1]
        logits = {}
        for name, _ in map(layer_names, self.layers):
            pooled = _mean(student.features[name], student.mask)
            logits[name] = nn.Dense(classes, name=f"head_{name}")(pooled)
        if self.final_logits:
            logits[FINAL] = student.logits
        labels = batch.filled_labels
        terms = {}
        for name, student_logits in logits.items():
            values = ofa(student_logits, teacher_logits, labels, exponent=self.exponent)
            terms[name] = Term(values, value_weights(values, student, batch, labels=True))
        return terms


def _mean(features: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the float32 mean over the pixels or the real tokens, [B, D].

    Args:
      features: maps [B, H, W, D], tokens [B, L, D] or vectors [B, D].
      mask: which positions hold a token, bool [B, L]; None for all.
    """
    x = jnp.asarray(features, jnp.float32)
    if x.ndim == 3 and mask is not None:
        real = checks.broadcast_mask("mask", mask, x.shape[:2]).astype(jnp.float32)[..., None]
        return (x * real).sum(axis=1) / jnp.maximum(real.sum(axis=1), 1)
    if x.ndim not in (2, 3, 4):
        raise ValueError(
            "OFA: expected maps [B, H, W, C], tokens [B, L, D] or vectors [B, D], got shape"
            f" {x.shape}; choose other layers"
        )
    return x.mean(axis=tuple(range(1, x.ndim - 1)))
