"""Batches, outputs and losses, and the time of an update."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array | np.ndarray
Variables = Mapping[str, Any]  # Flax variables: {'params': ..., 'batch_stats': ...}.
SOURCE, TARGET = "source", "target"  # The sides of a pair of texts, by which networks read them.
PROMPT, COMPLETION = 0, 1  # The token types of a text that a network continues.
UNLABELLED = -100  # The class index of an example or token without a label, as in PyTorch.


class Clock(struct.PyTreeNode):
    """The time of an update within its stage. Every schedule is a function of it.

    Attributes:
      temperature_step: k, the number of finished temperatures, int32 [].
      epoch: number of finished epochs, int32 [].
      step: number of finished updates, int32 [].
      steps_per_epoch: number of updates of an epoch, int32 [].
    """

    temperature_step: jax.Array
    epoch: jax.Array
    step: jax.Array
    steps_per_epoch: jax.Array

    @classmethod
    def at(
        cls, *, temperature_step: int = 0, epoch: int = 0, step: int = 0, steps_per_epoch: int = 1
    ) -> "Clock":
        """Returns the clock of a time that is given in Python numbers."""
        return cls(*map(jnp.int32, (temperature_step, epoch, step, steps_per_epoch)))


class Tokens(struct.PyTreeNode):
    """Tokenized texts, padded to the same length.

    Attributes:
      ids: token ids, int32 [B, L].
      token_type_ids: 0 for the first of two sentences, 1 for the second, int32 [B, L]; or PROMPT
        and COMPLETION.
      lengths: number of tokens of each text, int32 [B]; the rest of a row is padding.
    """

    ids: Array
    token_type_ids: Array
    lengths: Array

    @property
    def mask(self) -> jax.Array:
        """Which positions hold a token and not padding, bool [B, L]."""
        return jnp.arange(self.ids.shape[1]) < jnp.asarray(self.lengths)[:, None]


class TopK(struct.PyTreeNode):
    """The k largest of C logits, with what is needed for their probabilities.

    The probability of an entry is exp(value - log_sum_exp).

    Attributes:
      values: the logits in decreasing order, [..., k].
      indices: their classes, int32 [..., k].
      log_sum_exp: log of the sum of the exponentials of all C logits, [...].
    """

    values: jax.Array
    indices: jax.Array
    log_sum_exp: jax.Array

    @classmethod
    def of(cls, logits: Array, k: int) -> "TopK":
        """Returns the k largest logits of [..., C]."""
        values, indices = jax.lax.top_k(jnp.asarray(logits), k)
        return cls(values, indices, jax.nn.logsumexp(logits, axis=-1))


class Head(struct.PyTreeNode):
    """The last layer of a model: logits = pooled @ kernel + bias.

    Attributes:
      kernel: [D, C].
      bias: [C].
    """

    kernel: jax.Array
    bias: jax.Array


class Outputs(struct.PyTreeNode):
    """The outputs of a model.

    Attributes:
      logits: unnormalised scores [B, C] or, for every token, [B, L, C]. With `top_k`, C is 0.
      features: name to hidden representation [B, ...].
      top_k: the largest logits of a teacher that stores no others; None for all other models.
      mask: which positions of a text hold a token and not padding, for a decoder those of the
        completion, bool [B, L]; None for models of other inputs.
      head: the layer that maps the feature 'pooled' to the logits; None if a model does not return
        it, and for stored outputs.
    """

    logits: jax.Array
    features: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    top_k: TopK | None = None
    mask: jax.Array | None = None
    head: Head | None = None


class Batch(struct.PyTreeNode):
    """A batch of examples.

    Attributes:
      inputs: the model's inputs, an array [B, ...] or a tree of such arrays.
      labels: class indices, int32 [B], or [B, L] for every token; or the target numbers of a
        regression, float32 [B]. UNLABELLED, or NaN in a regression, marks missing labels.
      weights: weights of the examples, float32 [B]; 0 for padding rows of the last batch.
      ids: indices of the examples in their split, int32 [B].
      views: number of the augmented view of each example, int32 [B].
      stored: teacher name to its stored outputs, for teachers that do not run in the step.
      extra: what a stage's `prepare` computes for its loss, by name, such as the tokens before they
        are masked; arrays [B, ...].
    """

    inputs: Any
    labels: Array
    weights: Array
    ids: Array | None = None
    views: Array | None = None
    stored: Mapping[str, Outputs] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, Array] = dataclasses.field(default_factory=dict)

    @property
    def labelled(self) -> jax.Array:
        """Which labels are present, bool of the labels' shape."""
        labels = jnp.asarray(self.labels)
        if jnp.issubdtype(labels.dtype, jnp.floating):
            return ~jnp.isnan(labels)
        return labels != UNLABELLED

    @property
    def filled_labels(self) -> jax.Array:
        """The labels, with 0 in place of those that are missing; of the labels' shape."""
        return jnp.where(self.labelled, jnp.asarray(self.labels), 0)


class Term(struct.PyTreeNode):
    """One summand of a loss, with its own normaliser.

    A loss is the sum over its terms of scale * sum(values * weights) / sum(weights). The sums
    are taken over the whole batch: all devices and all accumulated parts. A term whose weights
    are all 0 is 0.

    Attributes:
      values: one value per example [B], or per token [B, L].
      weights: the weights of the values, of the same shape. They get no gradient. They must be
        0 where the example's weight is 0.
      scale: the factor of this term, a scalar that is the same on all devices.
    """

    values: jax.Array
    weights: Array
    scale: jax.typing.ArrayLike = 1.0


class WeightedSum(struct.PyTreeNode):
    """A weighted mean, stored as numerator and denominator so that it can be merged.

    The sums of two batches, devices or hosts add up to the sum over both, even if their
    weights differ. A mean of means would be wrong then.
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> "WeightedSum":
        """Returns the sum of `values` weighted by `weights`, which have the same shape.

        A value of weight 0 does not count, even if it is infinite or NaN.
        """
        counting = jnp.where(weights == 0, 0, values)
        return cls(total=jnp.sum(counting * weights), weight=jnp.sum(weights))

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> jax.Array:
        """Returns total / weight; NaN if the weight is 0."""
        return self.total / self.weight


Metrics = Mapping[str, WeightedSum]


class Loss(Protocol):
    """A loss that a stage minimises: a function, or a Flax module that owns variables.

    A loss that combines the rows of all devices, such as a matrix of similarities, also has a
    keyword argument `axis_name`, the axis of the surrounding pmap or None.
    """

    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
    ) -> jax.Array | Mapping[str, Term]:
        """Returns one value per example, float32 [B], or the terms of the loss by name.

        An array is one term, whose weights are those of the batch.
        """


class Teacher(Protocol):
    """A pytree that returns a teacher's outputs for a batch."""

    def __call__(self, batch: Batch) -> Outputs:
        """Returns the teacher's outputs for this device's share of a batch."""
