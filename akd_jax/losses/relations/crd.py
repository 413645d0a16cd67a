"""Contrastive representation distillation with a memory of the features of all examples."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, layer_names, value_weights
from akd_jax.losses.randomness import example_keys
from akd_jax.losses.relations.contrastive import Projections
from akd_jax.losses.rows import divide, gather_rows, sum_devices, unit_rows
from akd_jax.types import UNLABELLED, Batch, Clock, Outputs, Term

_EPSILON = 1e-7


class CRD(nn.Module):
    """The contrast of an example with a memory of all training examples (CRD).

        P(x, m) = exp(x . m / T) / Z        c = K / N
        h(x, m) = - log(P(x, m_i) / (P(x, m_i) + c + e)) - sum_k log(c / (P(x, m_k) + c + e))
        v = h(feature of the student, memory of the teacher)
            + h(feature of the teacher, memory of the student)

    The features are linear projections of norm 1, both trained. i is the example of x, its
    negatives k are K of the N training examples, and e is 1e-7. Z is N times the mean of
    exp(x . m / T) in the first batch, and is constant afterwards. The usual weight is 0.8 next to a
    cross-entropy of weight 1, with or without a KL divergence of weight 1.

    The state, in the collection 'memory', has a feature of student and teacher for each training
    example and the example's label. After a batch, or a part of it with accumulated gradients, the
    memory of its examples becomes momentum m + (1 - momentum) x, divided by its norm, on all
    devices. Examples of weight 0 change nothing. If an example is twice in a batch, its first row
    counts.

    In the published code (mode 'exact') the negatives are exactly K examples of other classes. Here
    every allowed example is a negative with the same probability, such that K are expected; if
    fewer than K are allowed, all are, and their sum is scaled to K. An example is not allowed if
    its class is known to be that of i. The labels are noted when their examples are in a batch: in
    the first epoch, in which most of the memory is still random, not all are known. Without class
    indices as labels only i itself is not allowed.

    A device with B of the rows needs memory for a few arrays of B N numbers. `InBatchCRD` needs no
    state.

    Source: Tian et al., "Contrastive Representation Distillation", ICLR 2020,
    https://arxiv.org/abs/1910.10699.

    Attributes:
      layers: the feature that student and teacher call by this name; or a pair, the student's
        feature and the teacher's.
      examples: the number of training examples N; the ids of a batch are below it, and an id that
        is not makes the loss NaN.
      negatives: the expected number of negatives K of an example, at least 1.
      width: the width of both projections.
      temperature: the divisor T of the cosines of the features, above 0.
      momentum: the share of the old feature in an update of the memory, from 0 to 1.
      teacher: the name of the teacher.
    """

    layers: Layers = "pooled"
    examples: int = 0
    negatives: int = 16384
    width: int = 128
    temperature: float = 0.07
    momentum: float = 0.5
    teacher: str = "teacher"

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
        *,
        axis_name: str | None = None,
    ) -> Mapping[str, Term]:
        """Returns one term, a value per example [B].

        Raises:
          ValueError: an attribute is out of range, or the batch has no ids below `examples`.
        """
        del clock
        self._check(batch)
        student_layer, teacher_layer = layer_names(self.layers)
        features = Projections(self.width, name="projections")(
            student.features[student_layer], teachers[self.teacher].features[teacher_layer]
        )
        ids, labels = jnp.asarray(batch.ids, jnp.int32), _class_indices(batch)
        weights = jnp.asarray(batch.weights, jnp.float32)
        memories = [self.variable("memory", name, self._random) for name in ("student", "teacher")]
        known_labels = self.variable(
            "memory", "labels", jnp.full, (self.examples,), UNLABELLED, jnp.int32
        )
        normalisers = self.variable("memory", "normalisers", jnp.zeros, (2,))

        same_class = (labels[:, None] == known_labels.value) & (labels >= 0)[:, None]
        allowed = ~same_class & (ids[:, None] != jnp.arange(self.examples))
        negatives = self._draw(allowed, batch, axis_name)
        values, fixed = jnp.zeros(len(ids)), []
        # The student's features are compared with the teacher's memory, and the other way round.
        for number, memory in enumerate(reversed(memories)):
            part, normaliser = self._contrast(
                features[number],
                memory.value,
                ids,
                negatives,
                normalisers.value[number],
                weights,
                axis_name,
            )
            values += part
            fixed.append(normaliser)

        in_range = (ids >= 0) & (ids < self.examples)
        if not self.is_initializing():
            rows = gather_rows((ids, labels, weights, in_range, *features), axis_name)
            index = self._changed_examples(rows[0], (rows[2] > 0) & rows[3])
            normalisers.value = jnp.stack(fixed)
            known_labels.value = known_labels.value.at[index].set(rows[1], mode="drop")
            for memory, rows_of_memory in zip(memories, rows[4:], strict=True):
                memory.value = self._updated(memory.value, index, rows_of_memory)
        # The product makes the gradient NaN too: an unknown example must not train the student.
        values *= jnp.where(in_range | (weights == 0), 1, jnp.nan)
        return {UNNAMED: Term(values, value_weights(values, student, batch))}

    def _check(self, batch: Batch) -> None:
        """Raises ValueError for attributes and concrete ids that are out of range."""
        if self.examples < 1:
            raise ValueError(
                f"CRD.examples: expected the number of training examples, got {self.examples}; set"
                " examples"
            )
        if batch.ids is None:
            raise ValueError("CRD: expected a batch with ids of its examples, got none; set ids")
        size = self.examples
        checks.check_values("CRD.negatives", self.negatives, "at least 1", lambda k: k >= 1)
        checks.check_values("CRD.temperature", self.temperature, "above 0", lambda t: t > 0)
        checks.check_values(
            "CRD.momentum", self.momentum, "from 0 to 1", lambda m: (m >= 0) & (m <= 1)
        )
        checks.check_values(
            "batch.ids",
            batch.ids,
            f"ids below CRD.examples = {size}",
            lambda ids: (ids >= 0) & (ids < size),
            "set examples to the number of training examples",
        )

    def _random(self) -> jax.Array:
        """Returns a random memory [N, width]; the expected square of the norm of a row is 1."""
        bound = (3 / self.width) ** 0.5
        shape = (self.examples, self.width)
        return jax.random.uniform(self.make_rng("params"), shape, minval=-bound, maxval=bound)

    def _draw(self, allowed: jax.Array, batch: Batch, axis_name: str | None) -> jax.Array:
        """Returns how often each allowed example is a negative of each row, float32 [B, N]."""
        counts = allowed.sum(axis=1, dtype=jnp.float32)
        if self.negatives < self.examples:
            keys = example_keys(self.make_rng("loss"), batch, axis_name)
            probabilities = jnp.minimum(divide(jnp.float32(self.negatives), counts), 1)
            draw = jax.vmap(lambda key, p: jax.random.bernoulli(key, p, (self.examples,)))
            allowed &= draw(keys, probabilities)
        share = divide(jnp.float32(self.negatives), jnp.minimum(counts, self.negatives))
        return share[:, None] * allowed.astype(jnp.float32)

    def _contrast(
        self,
        anchors: jax.Array,
        memory: jax.Array,
        ids: jax.Array,
        negatives: jax.Array,
        normaliser: jax.Array,
        weights: jax.Array,
        axis_name: str | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns h(anchors, memory) [B], and Z exp(-1 / T), which is fixed if it was 0."""
        # Subtract 1, the largest cosine, so that the exponential cannot overflow.
        own = ((anchors * memory[ids]).sum(axis=-1) - 1) / self.temperature
        cosines = jnp.matmul(anchors, memory.T, precision=jax.lax.Precision.HIGHEST)
        others = jnp.exp((cosines - 1) / self.temperature)
        mean = (jnp.exp(own) + (negatives * others).sum(axis=1)) / (1 + self.negatives)
        total, weight = sum_devices(((weights * mean).sum(), weights.sum()), axis_name)
        first = jax.lax.stop_gradient(self.examples * divide(total, weight))
        normaliser = jnp.where(normaliser > 0, normaliser, first)
        z = jnp.where(normaliser > 0, normaliser, 1)  # Z is 0 if all weights are 0.
        ratio = self.negatives / self.examples
        positive = jnp.log(jnp.exp(own) / z + ratio + _EPSILON) - (own - jnp.log(z))
        noise = negatives * jnp.log1p((others / z + _EPSILON) / ratio)
        return positive + noise.sum(axis=1), normaliser

    def _changed_examples(self, ids: jax.Array, valid: jax.Array) -> jax.Array:
        """Returns the ids of the rows that change the memory, and N, which is none, for others."""
        earlier = jnp.tril(ids[:, None] == ids, -1) & valid
        return jnp.where(valid & ~earlier.any(axis=1), ids, self.examples)

    def _updated(self, memory: jax.Array, index: jax.Array, features: jax.Array) -> jax.Array:
        """Returns the memory with the features at an index [B]; an index of N is left out."""
        mixed = self.momentum * memory[index] + (1 - self.momentum) * features
        return memory.at[index].set(unit_rows(jax.lax.stop_gradient(mixed)), mode="drop")


def _class_indices(batch: Batch) -> jax.Array:
    """Returns the labels of the examples, int32 [B]; UNLABELLED if they are no class indices."""
    labels = jnp.asarray(batch.labels)
    if labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.integer):
        return labels.astype(jnp.int32)
    return jnp.full(len(labels), UNLABELLED, jnp.int32)
