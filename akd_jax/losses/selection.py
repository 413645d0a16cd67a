"""Teachers that are chosen for each example, by a policy that learns from the student's reward."""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.losses.compose import value_weights
from akd_jax.losses.features.randomness import example_keys
from akd_jax.losses.logits.divergences import kl
from akd_jax.losses.logits.ensembles import average_teachers
from akd_jax.losses.logits.labels import supervised
from akd_jax.losses.rows import divide, sum_devices
from akd_jax.types import Batch, Clock, Outputs, Term

Reward = Literal["r1", "r2"]
Fallback = Literal["all", "none"]
Baseline = Literal["batch", "running", "none"]


class ReinforcedSelection(nn.Module):
    """KD from the teachers that a policy chooses, and the policy's loss (RL-KD).

    The state s of an example has a fixed vector of its text, the probabilities p_k of all K
    teachers, and their cross-entropies l_k = -log p_k[label]. The policy chooses each teacher k by
    itself, with the probability sigma(w_k . s + b_k); w and b start at 0. With the chosen teachers
    a, whose mean probability is q, the loss of the student is

        (1 - alpha) CE(label, z_s) + alpha T^2 KL(q || softmax(z_s / T))

    After the student's update, the policy learns by REINFORCE from the reward r of the updated
    student, with a baseline b: its loss is -(r - b) log pi(a | s).

    After Yuan et al., "Reinforced Multi-Teacher Selection for Knowledge Distillation", AAAI 2021,
    https://arxiv.org/abs/2012.06048. What the paper does not say was chosen here: the independence
    of the choices, the fallback, and the baseline.

    Attributes:
      teachers: the names of the teachers.
      sentence: the name of the network whose feature 'sentence' is the vector of a text; empty to
        leave it out.
      labels: whether the state has the cross-entropies, which tell the policy about the label.
      weight: alpha, from 0 to 1.
      temperature: T, greater than 0.
      fallback: the teachers of an example for which none is chosen: 'all', or 'none', so that it
        learns from its label alone.
      reward: 'r1', -CE; or 'r2', -CE - KL, with the KL of the loss.
      baseline: 'batch', the mean reward of the batch; 'running', an exponential mean over the
        batches before; or 'none', 0.
      momentum: the weight of the earlier batches in the running mean, from 0 to 1.
    """

    teachers: tuple[str, ...]
    sentence: str = ""
    labels: bool = True
    weight: float = 0.7
    temperature: float = 1.0
    fallback: Fallback = "all"
    reward: Reward = "r2"
    baseline: Baseline = "batch"
    momentum: float = 0.9

    def setup(self) -> None:
        """Creates the policy and the running mean of the reward."""
        self.policy = nn.Dense(len(self.teachers), kernel_init=nn.initializers.zeros)
        self.mean_reward = self.variable("baseline", "mean", jnp.zeros, ())
        self.batches = self.variable("baseline", "batches", jnp.zeros, ())

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

        The records are 'rate_NAME', the share of the examples that each teacher teaches;
        'entropy', that of the policy in nats; and 'empty', the share without a chosen teacher.
        """
        del clock
        choices, actions = self._choose(teachers, batch, axis_name)
        weights = jnp.asarray(batch.weights)
        hard, soft = self._losses(student, teachers, batch, actions)
        taught = weights if self.fallback == "all" else jnp.where(actions.any(axis=1), weights, 0)
        labelled = value_weights(hard, student, batch, labels=True)
        entropy = (jax.nn.softplus(choices) - choices * jax.nn.sigmoid(choices)).sum(axis=1)
        records = {
            **{f"rate_{name}": actions[:, k] for k, name in enumerate(self.teachers)},
            "entropy": entropy,
            "empty": ~actions.any(axis=1),
        }
        return {
            "labels": Term(hard, labelled, 1 - self.weight),
            "soft": Term(soft, taught, self.weight),
            **_records(records, weights),
        }

    def after_update(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
        *,
        axis_name: str | None = None,
    ) -> Mapping[str, Term]:
        """Returns the term 'policy', and the records 'reward' and 'baseline' with the scale 0.

        Args:
          student: the outputs of the updated student.
          teachers: the teachers' outputs by name.
          batch: the batch of the update.
          clock: the time of the update.
          axis_name: the axis of the surrounding pmap; None without pmap.
        """
        del clock
        choices, actions = self._choose(teachers, batch, axis_name)
        weights = jnp.asarray(batch.weights)
        hard, soft = self._losses(student, teachers, batch, actions)
        reward = jax.lax.stop_gradient(-hard if self.reward == "r1" else -hard - soft)
        total, weight = sum_devices(((reward * weights).sum(), weights.sum()), axis_name)
        mean = divide(total, weight)
        baseline = self._baseline(mean, weight)
        # log sigma(z) for a chosen teacher, and log(1 - sigma(z)) = log sigma(-z) for another one.
        log_probability = jax.nn.log_sigmoid(jnp.where(actions, choices, -choices)).sum(axis=1)
        policy = -(reward - baseline) * log_probability
        shown = {"reward": reward, "baseline": jnp.broadcast_to(baseline, reward.shape)}
        return {"policy": Term(policy, weights), **_records(shown, weights)}

    def _choose(
        self, teachers: Mapping[str, Outputs], batch: Batch, axis_name: str | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the policy's logits [B, K], and the chosen teachers, bool [B, K].

        The choice depends on the update and on the id of an example, so that it is the same before
        and after the update of the student, and for any number of devices.
        """
        logits = self.policy(self._policy_inputs(teachers, batch))
        keys = example_keys(self.make_rng("loss"), batch, axis_name)
        draw = jax.vmap(lambda key, p: jax.random.bernoulli(key, p))
        return logits, draw(keys, jax.lax.stop_gradient(jax.nn.sigmoid(logits)))

    def _policy_inputs(self, teachers: Mapping[str, Outputs], batch: Batch) -> jax.Array:
        """Returns the state of the policy, float32 [B, D]."""
        logits = [teachers[name].logits for name in self.teachers]
        parts = [jax.nn.softmax(jnp.asarray(z, jnp.float32)) for z in logits]
        if self.sentence:
            parts.append(teachers[self.sentence].features["sentence"].astype(jnp.float32))
        if self.labels:
            labels = jnp.where(batch.labelled, batch.labels, 0)
            errors = jnp.stack([supervised(z, labels) for z in logits], axis=1)
            parts.append(jnp.where(batch.labelled[:, None], errors, 0))
        return jax.lax.stop_gradient(jnp.concatenate(parts, axis=1))

    def _losses(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        actions: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy and the KL divergence of each example, [B]."""
        labels = jnp.where(batch.labelled, batch.labels, 0)
        hard = jnp.where(batch.labelled, supervised(student.logits, labels), 0)
        none = ~actions.any(axis=1, keepdims=True)
        target = average_teachers(
            jnp.stack([teachers[name].logits for name in self.teachers]),
            (actions | none).astype(jnp.float32),
            temperature=self.temperature,
        )
        soft = kl(student.logits, target, self.temperature)
        return hard, soft if self.fallback == "all" else jnp.where(none[:, 0], 0, soft)

    def _baseline(self, mean: jax.Array, weight: jax.Array) -> jax.Array:
        """Returns the baseline of a batch with this mean reward; updates the running mean."""
        if self.baseline == "batch":
            return mean
        if self.baseline == "none":
            return jnp.zeros_like(mean)
        before, batches = self.mean_reward.value, self.batches.value
        # The first batch has no earlier ones.
        momentum = jnp.where(batches > 0, self.momentum, 0)
        updated = momentum * before + (1 - momentum) * mean
        if not self.is_initializing():
            self.mean_reward.value = jnp.where(weight > 0, updated, before)
            self.batches.value = batches + (weight > 0).astype(jnp.float32)
        return jnp.where(batches > 0, before, mean)


def _records(values: Mapping[str, jax.Array], weights: jax.Array) -> dict[str, Term]:
    """Returns terms that the records show, but that are no part of a loss."""
    return {
        name: Term(jax.lax.stop_gradient(jnp.asarray(x, jnp.float32)), weights, 0.0)
        for name, x in values.items()
    }
