"""SemCKD: all pairs of layers of student and teacher, with weights of a trained attention."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import UNNAMED, Layers, layer_names, value_weights
from akd_jax.losses.features.distances import feature_mse
from akd_jax.losses.features.preparation import as_map, pool_to_smaller, read_pair
from akd_jax.losses.features.projectors import batch_norm
from akd_jax.losses.rows import flatten, gather_rows, unit_rows
from akd_jax.types import Batch, Clock, Outputs, Term


class SemCKD(nn.Module):
    """The errors of all pairs of layers; an attention chooses the teacher's layers of each example.

        value = mean over s of sum over t of a_st mean (r_st(F_s) - F_t)^2
        a_st = softmax over t of q_s . k_t / temperature

    s runs over the student's layers and t over the teacher's. r_st has a 1x1, a 3x3 and a 1x1
    convolution; batch norm and ReLU follow the first two, which have twice as many channels as F_t.
    If two maps differ in size, the larger one is average-pooled to the size of the smaller one. The
    query q_s and the key k_t, of norm 1, are those of the example: two dense layers compute them
    from the products of its flattened feature with those of all examples of the batch. The usual
    weight is 400, next to a cross-entropy and a KL divergence of weight 1.

    The first of these dense layers has a row for each example of a batch: the batch size must stay
    the same, also when a run resumes. The batch is that of all devices, and with accumulated
    gradients one part of it. Products with examples of weight 0 count as 0.

    The parameters are trained with the student and belong to the loss. The batch norms always use
    the statistics of the batch, over all devices.

    Source: Chen et al., "Cross-Layer Distillation with Semantic Calibration", AAAI 2021,
    https://arxiv.org/abs/2012.03236.

    Attributes:
      layers: the layers. Each is a feature that student and teacher call by this name; or a pair, a
        feature of the student and one of the teacher. All features of the student are compared with
        all of the teacher. Features are maps [B, H, W, C] or vectors [B, D].
      teacher: the name of the teacher.
      temperature: the divisor of the attention's scores, above 0; a large one compares all layers
        equally.
      reduction: the batch size divided by the width of queries and keys, at least 1.
    """

    layers: tuple[Layers, ...] = ("group_1", "group_2", "group_3")
    teacher: str = "teacher"
    temperature: float = 1.0
    reduction: int = 4

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
        """Returns one term: a value per example [B].

        Raises:
          ValueError: there is no layer, a layer is neither a map nor a vector, the batch size has
            changed, or an option is out of range.
        """
        del clock
        checks.check_values("temperature", self.temperature, "above 0", lambda x: x > 0)
        checks.check_values("reduction", self.reduction, "at least 1", lambda x: x >= 1)
        if not self.layers:
            raise ValueError("SemCKD: expected at least one layer, got none; set layers")
        # A layer of several pairs counts once.
        of_student: dict[str, jax.Array] = {}
        of_teacher: dict[str, jax.Array] = {}
        for layers in self.layers:
            student_layer, teacher_layer = layer_names(layers)
            features, target = read_pair(layers, student, teachers[self.teacher])
            of_student[student_layer], of_teacher[teacher_layer] = as_map(features), as_map(target)
        counts = (jnp.asarray(batch.weights) > 0).astype(jnp.float32)

        def embeddings(kind: str, layers: Mapping[str, jax.Array]) -> jax.Array:
            """Returns queries or keys of all layers, [B, layers, width]."""
            rows = [_similarities(x, counts, axis_name) for x in layers.values()]
            width = max(1, rows[0].shape[-1] // self.reduction)
            embedded = [_Embedding(width, name=f"{kind}_{i}")(x) for i, x in enumerate(rows)]
            return jnp.stack(embedded, axis=1)

        queries, keys = embeddings("query", of_student), embeddings("key", of_teacher)
        scores = jnp.einsum("bsd,btd->bst", queries, keys) / self.temperature
        attention = jax.nn.softmax(scores, axis=-1)
        errors = []
        for s, features in enumerate(of_student.values()):
            for t, target in enumerate(of_teacher.values()):
                source, goal = pool_to_smaller(features, target)
                projection = _Projection(goal.shape[-1], name=f"projection_{s}_{t}")
                errors.append(feature_mse(projection(source, axis_name=axis_name), goal))
        weighted = attention * jnp.stack(errors, axis=-1).reshape(attention.shape)
        values = weighted.sum(axis=-1).mean(axis=-1)
        return {UNNAMED: Term(values, value_weights(values, student, batch))}


class _Embedding(nn.Module):
    """Maps the similarities of an example to a vector of norm 1."""

    width: int

    @nn.compact
    def __call__(self, similarities: jax.Array) -> jax.Array:
        """Maps rows [B, examples of all devices] to [B, width]."""
        actual = similarities.shape[-1]
        if self.has_variable("params", "hidden"):
            expected = self.variables["params"]["hidden"]["kernel"].shape[0]
            if actual != expected:
                raise ValueError(
                    f"SemCKD: expected batches of {expected} examples, the size of its parameters,"
                    f" got {actual}; keep the batch size"
                )
        x = nn.relu(nn.Dense(2 * self.width, name="hidden")(similarities))
        return unit_rows(nn.Dense(self.width, name="output")(x))


class _Projection(nn.Module):
    """Three convolutions to a number of channels."""

    channels: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, axis_name: str | None) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, channels]."""
        x = nn.Conv(2 * self.channels, (1, 1), use_bias=False)(maps)
        x = nn.relu(batch_norm(axis_name)(x))
        x = nn.Conv(2 * self.channels, (3, 3), padding=1, use_bias=False)(x)
        x = nn.relu(batch_norm(axis_name)(x))
        return nn.Conv(self.channels, (1, 1), use_bias=False)(x)


def _similarities(features: jax.Array, counts: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the products of this device's examples with all; 0 for those that do not count.

    Args:
      features: the features of this device's examples, [B, H, W, C].
      counts: 1 for each example with a weight, otherwise 0, [B].
      axis_name: the axis of the devices; None for one device.
    """
    rows = flatten(features)
    others, counts = gather_rows((rows, counts), axis_name)
    products = counts * jnp.einsum("id,jd->ij", rows, others, precision=jax.lax.Precision.HIGHEST)
    # Without an axis, as in the initialisation, a process has only its part of the batch.
    missing = 0 if axis_name is not None else len(rows) * (jax.process_count() - 1)
    return jnp.pad(products, ((0, 0), (0, missing)))
