"""Losses of the products of channels: within one map (NST), and between two layers (FSP).

The maps are [B, H, W, C]: B examples, H rows and W columns of pixels, C channels.
"""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.losses.binding import UNNAMED, Layers, value_weights
from akd_jax.losses.features.preparation import (
    check_maps,
    pool_to_smaller,
    prepare_features,
    read_pair,
)
from akd_jax.losses.rows import unit_rows
from akd_jax.types import Array, Batch, Clock, Outputs, Term

Pooling = Literal["max", "average"]


def nst(student_features: Array, teacher_features: Array) -> jax.Array:
    """Returns the squared distance of the distributions of channels (NST).

        value = mean k(t, t') + mean k(s, s') - 2 mean k(s, t)        k(a, b) = (a . b)^2

    s and t are the channels of student and teacher: the pixels of a channel as a vector of norm 1.
    The means run over all pairs of channels. The value is the squared maximum mean discrepancy of
    the two sets of channels, with a polynomial kernel. The order of the channels does not matter,
    and their numbers may differ. If the maps differ in size, the larger one is average-pooled to
    the size of the smaller one. A channel that is 0 stays 0.

    The usual weight is 50 for each pair of layers, next to a cross-entropy of weight 1 (Tian et
    al., "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699).

    Source: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
    2017, https://arxiv.org/abs/1707.01219.

    Args:
      student_features: F_s, [B, H, W, C].
      teacher_features: F_t, [B, H', W', C'].

    Returns:
      float32 [B].

    Raises:
      ValueError: the features are not maps of the same examples.
    """
    pair = prepare_features(student_features, teacher_features)
    check_maps(*pair)
    student, teacher = (_unit_channels(maps) for maps in pool_to_smaller(*pair))
    (s, pixels), t = student.shape[1:], teacher.shape[1]
    # Both forms are equal: the sum of the squares of X Y^T is that of X^T X times Y^T Y.
    if pixels * (s + t) <= s * s + s * t + t * t:
        difference = _products("bcm,bcn->bmn", student) / s - _products("bcm,bcn->bmn", teacher) / t
        return jnp.square(difference).sum(axis=(1, 2))

    def mean_kernel(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.square(_products("bcn,bdn->bcd", one, other)).mean(axis=(1, 2))

    return (
        mean_kernel(teacher, teacher)
        + mean_kernel(student, student)
        - 2 * mean_kernel(student, teacher)
    )


def fsp_matrix(first: Array, second: Array, *, pooling: Pooling = "max") -> jax.Array:
    """Returns the products of the channels of two maps of one network (FSP).

        G_cd = mean over pixels of first_c * second_d

    If the maps differ in size, the larger one is pooled to the size of the smaller one.

    Source: Yim et al., "A Gift from Knowledge Distillation", CVPR 2017; see `FSP`.

    Args:
      first: the map of a layer, [B, H, W, C].
      second: the map of another layer, [B, H', W', D].
      pooling: 'max' to pool the larger map by its largest values, as in the paper; 'average' to
        pool it by means, as RepDistiller does.

    Returns:
      float32 [B, C, D].

    Raises:
      ValueError: the features are not maps of the same examples; or 'max' is asked for, and a
        height or width is not a multiple of the smaller one.
    """
    one, other = (jnp.asarray(maps, jnp.float32) for maps in (first, second))
    check_maps(one, other)
    if pooling == "average":
        one, other = pool_to_smaller(one, other)
    elif pooling == "max":
        size = tuple(map(min, one.shape[1:3], other.shape[1:3]))
        one, other = _max_pool(one, size), _max_pool(other, size)
    else:
        raise ValueError(f"pooling: expected 'max' or 'average', got {pooling!r}")
    one, other = (maps.reshape(len(maps), -1, maps.shape[-1]) for maps in (one, other))
    return _products("bpc,bpd->bcd", one, other) / one.shape[1]


class FSP(nn.Module):
    """The squared difference of the products of two layers' channels (FSP).

        value = mean over c and d of (G_s - G_t)_cd^2

    G is the `fsp_matrix` of two layers of one network, such as the first and the last layer of a
    group of blocks. The paper sums the squares over c and d; RepDistiller has their mean, with
    pooling='average'. Both train the student with this loss only, in a separate stage, before
    they train it with labels. The weight 50 of RepDistiller's command has no effect: it multiplies
    0 in the second stage.

    The paper and RepDistiller need the same numbers of channels in student and teacher. As an
    extension, a trained 1x1 convolution maps those of the student's layers whose number differs.

    Source: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization
    and Transfer Learning", CVPR 2017,
    http://openaccess.thecvf.com/content_cvpr_2017/papers/Yim_A_Gift_From_CVPR_2017_paper.pdf.

    Attributes:
      layers: the first and the second layer. Each is the feature that student and teacher call by
        this name; or a pair, the student's feature and the teacher's.
      teacher: the name of the teacher.
      pooling: 'max' to pool the larger map of a network by its largest values; 'average' to pool
        it by means.
      project: whether a trained 1x1 convolution changes the student's number of channels where it
        differs from the teacher's; without it the numbers must be equal.
    """

    layers: tuple[Layers, Layers]
    teacher: str = "teacher"
    pooling: Pooling = "max"
    project: bool = True

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
    ) -> Mapping[str, Term]:
        """Returns one term, a value per example [B].

        Raises:
          ValueError: there are not two layers, the numbers of channels differ without a
            projection, or `fsp_matrix` raises it.
        """
        del clock
        if isinstance(self.layers, str) or len(self.layers) != 2:
            raise ValueError(
                "FSP: expected two layers, each a name or a pair of names, got"
                f" layers={self.layers!r}"
            )
        pairs = [read_pair(layers, student, teachers[self.teacher]) for layers in self.layers]
        maps = [self._project(*pair) for pair in pairs]
        matrix = fsp_matrix(*maps, pooling=self.pooling)
        target = fsp_matrix(*(target for _, target in pairs), pooling=self.pooling)
        values = jnp.square(matrix - target).mean(axis=(1, 2))
        return {UNNAMED: Term(values, value_weights(values, student, batch))}

    def _project(self, features: jax.Array, target: jax.Array) -> jax.Array:
        """Returns the student's map with the teacher's number of channels."""
        check_maps(features, target)
        channels = target.shape[-1]
        if features.shape[-1] == channels:
            return features
        if not self.project:
            raise ValueError(
                f"FSP: expected the teacher's {channels} channels in the student's map, got"
                f" {features.shape[-1]}; set project=True or choose other layers"
            )
        return nn.Conv(channels, (1, 1))(features)


def _unit_channels(maps: jax.Array) -> jax.Array:
    """Returns the channels of maps as vectors of norm 1, [B, C, H * W]."""
    return unit_rows(jnp.swapaxes(maps.reshape(len(maps), -1, maps.shape[-1]), 1, 2))


def _products(equation: str, one: jax.Array, other: jax.Array | None = None) -> jax.Array:
    """Returns the products of two arrays, or of an array with itself, in full precision."""
    other = one if other is None else other
    return jnp.einsum(equation, one, other, precision=jax.lax.Precision.HIGHEST)


def _max_pool(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Pools maps [B, H, W, C] to [B, *size, C] by the largest values."""
    before = maps.shape[1:3]
    if before == size:
        return maps
    if any(b % a for b, a in zip(before, size, strict=True)):
        raise ValueError(
            f"FSP: expected maps of a size that is a multiple of {size} for pooling='max', got"
            f" {before}; set pooling='average'"
        )
    (rows, columns), (height, width) = size, before
    windows = (-1, rows, height // rows, columns, width // columns, maps.shape[-1])
    # At ties, the pixels of a window share the gradient; in PyTorch one pixel gets it.
    return maps.reshape(windows).max(axis=(2, 4))
