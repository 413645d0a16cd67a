"""KD from teachers that a rule chooses for each example; what all choices of teachers share."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import checks
from akd_jax.losses.binding import value_weights
from akd_jax.losses.logits.divergences import kl
from akd_jax.losses.logits.ensembles import average_teachers
from akd_jax.losses.logits.labels import supervised
from akd_jax.losses.randomness import example_keys, shared_key
from akd_jax.types import Batch, Clock, Outputs, Term

Rule = Literal["weighted", "random", "random_teacher", "lowest_error"]
Fallback = Literal["all", "none"]


class ChosenTeachers(nn.Module):
    """What all choices of teachers share: the loss of the student and the records of the choice.

    Attributes: see `TeacherSelection`.
    """

    teachers: tuple[str, ...]
    folds: int = 0
    weight: float = 0.7
    temperature: float = 1.0
    fallback: Fallback = "all"

    def teacher_logits(self, teachers: Mapping[str, Outputs], batch: Batch) -> jax.Array:
        """Returns the logits of the teachers, [K, B, C].

        Raises:
          ValueError: there are fewer than two names, one occurs twice, the batch has no ids, or an
            option is out of range.
        """
        check_option("fallback", self.fallback, Fallback)
        check_share("weight", self.weight)
        checks.check_values("folds", self.folds, "at least 0", lambda x: x >= 0)
        if len(set(self.teachers)) < max(2, len(self.teachers)):
            raise ValueError(
                "teachers: expected at least two different names, got"
                f" {', '.join(self.teachers) or 'none'}; correct the names"
            )
        if not self.folds:
            return jnp.stack([teachers[name].logits for name in self.teachers])
        if batch.ids is None:
            raise ValueError("folds: expected batches with the ids of their examples, got none")
        rows, fold = jnp.arange(len(batch.weights)), jnp.asarray(batch.ids) % self.folds
        return jnp.stack(
            [
                jnp.stack([teachers[x].logits for x in fold_names(name, self.folds)])[fold, rows]
                for name in self.teachers
            ]
        )

    def student_losses(
        self, student: Outputs, logits: jax.Array, batch: Batch, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy and the KL divergence of each example, [B].

        The cross-entropy is 0 without a label. The divergence is 0 without a chosen teacher if the
        fallback is 'none'.
        """
        hard = jnp.where(batch.labelled, supervised(student.logits, batch.filled_labels), 0)
        none = _none(weights)
        target = average_teachers(
            logits, jnp.where(none[:, None], 1, weights), temperature=self.temperature
        )
        soft = kl(student.logits, target, self.temperature)
        return hard, soft if self.fallback == "all" else jnp.where(none, 0, soft)

    def student_terms(
        self,
        student: Outputs,
        losses: tuple[jax.Array, jax.Array],
        batch: Batch,
        weights: jax.Array,
        records: Mapping[str, jax.Array],
    ) -> dict[str, Term]:
        """Returns the terms of the student, and the records of the choice."""
        hard, soft = losses
        rows = jnp.asarray(batch.weights)
        rates = {f"rate_{name}": weights[:, k] for k, name in enumerate(self.teachers)}
        return {
            "labels": Term(hard, value_weights(hard, student, batch, labels=True), 1 - self.weight),
            "soft": Term(soft, rows, self.weight),
            **records_of({**rates, "empty": _none(weights), **records}, rows),
        }


class TeacherSelection(ChosenTeachers):
    """KD from teachers that a fixed rule chooses for each example.

    With the weights a of the teachers and their probabilities p_k, the soft target is
    q = sum_k a_k p_k / sum_k a_k, and the loss of the student is

        (1 - alpha) CE(label, z_s) + alpha T^2 KL(q || softmax(z_s / T))

    with z_s and the logits of the teachers [B, C]. It is the loss of `ReinforcedSelection` with a
    policy that does not learn, for comparisons.

    Source: the comparisons of Yuan et al., "Reinforced Multi-Teacher Selection for Knowledge
    Distillation", AAAI 2021, https://arxiv.org/abs/2012.06048.

    Attributes:
      teachers: the names of the teachers.
      folds: the number of teachers that stand for each name, which are called as `fold_names` says;
        teacher f teaches the examples whose ids have the remainder f. 0 for one teacher.
      weight: alpha, from 0 to 1.
      temperature: T, greater than 0.
      fallback: the teachers of an example for which none is chosen: 'all', or 'none', so that only
        its label teaches it.
      rule: 'weighted', with the same weights for all examples; 'random', each teacher by itself,
        with its weight as the probability; 'random_teacher', one teacher for all examples of an
        update, or of each accumulated part of it; or 'lowest_error', the teacher with the lowest
        cross-entropy for the label.
      weights: the weight of each teacher; empty for 1. Only 'weighted' and 'random' use them.

    Raises:
      ValueError: an option is out of range, when it is called.
    """

    rule: Rule = "weighted"
    weights: tuple[float, ...] = ()

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
        """Returns the terms 'labels' and 'soft', and records of the choice with the scale 0.

        The records are 'rate_NAME', the mean weight of each teacher; and 'empty', the share of the
        examples without a chosen teacher.
        """
        del clock
        logits = self.teacher_logits(teachers, batch)
        weights = self._choose(logits, batch, axis_name)
        losses = self.student_losses(student, logits, batch, weights)
        return self.student_terms(student, losses, batch, weights, {})

    def _choose(self, logits: jax.Array, batch: Batch, axis_name: str | None) -> jax.Array:
        """Returns the weight of each teacher for each example, float32 [B, K]."""
        check_option("rule", self.rule, Rule)
        largest = 1 if self.rule == "random" else math.inf
        if self.weights and (
            len(self.weights) != len(self.teachers)
            or not all(0 <= weight <= largest for weight in self.weights)
        ):
            raise ValueError(
                f"weights: expected a number from 0 to {largest} for each of"
                f" {', '.join(self.teachers)}, got {self.weights}; correct them"
            )
        count, rows = len(self.teachers), len(batch.weights)
        weights = jnp.array(self.weights or (1.0,) * count, jnp.float32)
        if self.rule == "random":
            keys = example_keys(self.make_rng("loss"), batch, axis_name)
            return draw(keys, jnp.broadcast_to(weights, (rows, count)))
        if self.rule == "random_teacher":
            drawn = jax.random.randint(shared_key(self.make_rng("loss"), axis_name), (), 0, count)
            return jnp.broadcast_to(jax.nn.one_hot(drawn, count), (rows, count))
        if self.rule == "lowest_error":
            best = jax.nn.one_hot(jnp.argmin(label_errors(logits, batch), axis=1), count)
            return jnp.where(batch.labelled[:, None], best, 0)
        return jnp.broadcast_to(weights, (rows, count))


def check_option(name: str, value: str, options: Any) -> None:
    """Raises ValueError if a value is none of the strings of a Literal type."""
    known = get_args(options)
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless a value is from 0 to 1."""
    checks.check_values(name, value, "a number from 0 to 1", lambda x: (x >= 0) & (x <= 1))


def fold_names(name: str, folds: int) -> list[str]:
    """Returns the names of the teachers that stand for one name, one for each fold."""
    return [f"{name}_fold_{fold}" for fold in range(folds)]


def _none(weights: jax.Array) -> jax.Array:
    """Returns for which examples no teacher is chosen, bool [B]."""
    return ~(weights > 0).any(axis=1)


def label_errors(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns the cross-entropy of each teacher for the label, float32 [B, K]."""
    return jnp.stack([supervised(z, batch.filled_labels) for z in logits], axis=1)


def draw(keys: jax.Array, rates: jax.Array) -> jax.Array:
    """Draws 1 or 0 for each example and teacher, with the rates as probabilities of 1, [B, K]."""
    return jax.vmap(jax.random.bernoulli)(keys, rates).astype(jnp.float32)


def records_of(values: Mapping[str, jax.Array], weights: jax.Array) -> dict[str, Term]:
    """Returns terms that the records show, but that are no part of a loss."""
    return {
        name: Term(jax.lax.stop_gradient(jnp.asarray(x, jnp.float32)), weights, 0.0)
        for name, x in values.items()
    }
