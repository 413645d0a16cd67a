"""KD from teachers that a policy chooses for each example; it learns from the student's reward."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.losses.randomness import example_keys, shared_key
from akd_jax.losses.rows import divide, sum_devices
from akd_jax.losses.selection.chosen import (
    ChosenTeachers,
    check_option,
    check_share,
    draw,
    label_errors,
    records_of,
)
from akd_jax.types import Batch, Clock, Outputs, Term, WeightedSum

Reward = Literal["r1", "r2", "r3"]
Baseline = Literal["batch", "running", "none"]

# The collection with the examples of the reward r3, {'inputs': ..., 'labels': ...}.
REWARD_EXAMPLES = "reward_examples"


class ReinforcedSelection(ChosenTeachers):
    """KD from the teachers that a policy chooses, and the policy's loss (RL-KD).

    The state s of an example has a fixed vector of its text, the probabilities p_k of all K
    teachers, and their cross-entropies l_k = -log p_k[label]. The policy chooses each teacher k by
    itself, with the probability sigma(w_k . s + b_k); w and b start at 0. With the chosen teachers
    a, whose mean probability is q, the loss of the student is

        (1 - alpha) CE(label, z_s) + alpha T^2 KL(q || softmax(z_s / T))

    After the student's update, the policy learns by REINFORCE from the reward r of the updated
    student, with a baseline b: its loss is -(r - b) log pi(a | s). An example without a label has
    no reward, and the policy does not learn from it.

    Source: after Yuan et al., "Reinforced Multi-Teacher Selection for Knowledge Distillation",
    AAAI 2021, https://arxiv.org/abs/2012.06048. What the paper does not say was chosen here: the
    independence of the choices, the fallback, and the baseline.

    Attributes:
      teachers, folds, weight, temperature, fallback: as for `TeacherSelection`.
      sentence: the name of the network whose feature 'sentence' is the vector of a text; empty to
        leave it out.
      labels: whether the state has the cross-entropies, which tell the policy about the label.
      reward: 'r1', -CE; 'r2', -CE - KL, with the KL of the loss; or 'r3',
        gamma (-CE - KL) + (1 - gamma) accuracy, where the accuracy is that of a random batch of
        the examples in the collection REWARD_EXAMPLES. It is the same for all examples of an
        update.
      gamma: the share of the example's own reward in r3, from 0 to 1.
      baseline: 'batch', the mean reward of the batch; 'running', an exponential mean over the
        batches before; or 'none', 0. With accumulated gradients, each part is a batch. Not 'batch'
        with 'r3', since the mean of a batch cancels the accuracy.
      momentum: the weight of the earlier batches in the running mean, from 0 to 1.
      before_update: whether the reward is that of the student before its update, which needs no
        second forward pass, but has the student's dropout. The policy's loss is then a term of the
        loss. Not with 'r3'.
    """

    sentence: str = ""
    labels: bool = True
    reward: Reward = "r2"
    gamma: float = 0.5
    baseline: Baseline = "batch"
    momentum: float = 0.9
    before_update: bool = False

    def setup(self) -> None:
        """Creates the policy and the running mean of the reward.

        Raises:
          ValueError: a setting is out of range, or the settings do not fit each other.
        """
        check_option("reward", self.reward, Reward)
        check_option("baseline", self.baseline, Baseline)
        check_share("gamma", self.gamma)
        check_share("momentum", self.momentum)
        if self.before_update and self.reward == "r3":
            raise ValueError("reward: expected r1 or r2 before the update, got r3; choose another")
        if self.baseline == "batch" and self.reward == "r3":
            raise ValueError(
                "baseline: expected running or none for the reward r3, whose accuracy the mean of a"
                " batch cancels, got batch; choose another"
            )
        self.policy = nn.Dense(len(self.teachers), kernel_init=nn.initializers.zeros)
        self.mean_reward = self.variable("baseline", "mean", jnp.zeros, ())
        self.batches = self.variable("baseline", "batches", jnp.zeros, ())

    @property
    def learns_after_update(self) -> bool:
        """Whether the training step calls `after_update`."""
        return not self.before_update

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
        logits = self.teacher_logits(teachers, batch)
        choices, actions = self._choose(logits, teachers, batch, axis_name)
        losses = self.student_losses(student, logits, batch, actions)
        entropy = (jax.nn.softplus(choices) - choices * jax.nn.sigmoid(choices)).sum(axis=1)
        terms = self.student_terms(student, losses, batch, actions, {"entropy": entropy})
        if self.before_update:
            terms |= self._policy_terms(choices, actions, self._reward(losses), batch, axis_name)
        return terms

    def after_update(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
        *,
        model: Callable[[Any], Outputs],
        axis_name: str | None = None,
    ) -> Mapping[str, Term]:
        """Returns the term 'policy', and records with the scale 0.

        The records are 'reward' and 'baseline'; and 'reward_accuracy' for the reward r3.

        Args:
          student: the outputs of the updated student.
          teachers: the teachers' outputs by name.
          batch: the batch of the update.
          clock: the time of the update.
          model: the updated student.
          axis_name: the axis of the surrounding pmap; None without pmap.
        """
        del clock
        logits = self.teacher_logits(teachers, batch)
        choices, actions = self._choose(logits, teachers, batch, axis_name)
        reward = self._reward(self.student_losses(student, logits, batch, actions))
        if self.reward != "r3":
            return self._policy_terms(choices, actions, reward, batch, axis_name)
        accuracy = self._accuracy(model, len(batch.weights), axis_name)
        reward = self.gamma * reward + (1 - self.gamma) * accuracy
        shown = {"reward_accuracy": jnp.broadcast_to(accuracy, reward.shape)}
        return {
            **self._policy_terms(choices, actions, reward, batch, axis_name),
            **records_of(shown, jnp.asarray(batch.weights)),
        }

    def _choose(
        self,
        logits: jax.Array,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        axis_name: str | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the policy's logits and the chosen teachers, 1 or 0, both float32 [B, K].

        The choice depends on the update and on the id of an example, so that it is the same before
        and after the update of the student, and for any number of devices.
        """
        parts = [*jax.nn.softmax(logits.astype(jnp.float32))]
        if self.sentence:
            parts.append(teachers[self.sentence].features["sentence"].astype(jnp.float32))
        if self.labels:
            parts.append(jnp.where(batch.labelled[:, None], label_errors(logits, batch), 0))
        choices = self.policy(jax.lax.stop_gradient(jnp.concatenate(parts, axis=1)))
        keys = example_keys(self.make_rng("loss"), batch, axis_name)
        return choices, draw(keys, jax.lax.stop_gradient(jax.nn.sigmoid(choices)))

    def _reward(self, losses: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Returns the reward of each example for its own losses, [B]."""
        hard, soft = losses
        return jax.lax.stop_gradient(-hard if self.reward == "r1" else -hard - soft)

    def _policy_terms(
        self,
        choices: jax.Array,
        actions: jax.Array,
        reward: jax.Array,
        batch: Batch,
        axis_name: str | None,
    ) -> dict[str, Term]:
        """Returns the policy's loss, and records of the reward and its baseline."""
        weights = jnp.where(batch.labelled, batch.weights, 0)
        rewards = sum_devices(WeightedSum.of(reward, weights), axis_name)
        baseline = self._baseline(divide(rewards.total, rewards.weight), rewards.weight)
        # log sigma(z) for a chosen teacher, and log(1 - sigma(z)) = log sigma(-z) for another one.
        signed = jnp.where(actions > 0, choices, -choices)
        policy = -(reward - baseline) * jax.nn.log_sigmoid(signed).sum(axis=1)
        shown = {"reward": reward, "baseline": jnp.broadcast_to(baseline, reward.shape)}
        return {"policy": Term(policy, weights), **records_of(shown, weights)}

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

    def _accuracy(
        self, model: Callable[[Any], Outputs], rows: int, axis_name: str | None
    ) -> jax.Array:
        """Returns the model's accuracy on a random batch of the examples of the reward.

        Each device reads a part of the batch, with at most `rows` examples.
        """
        if not self.has_variable(REWARD_EXAMPLES, "labels"):
            raise ValueError(
                f"reward: expected the collection {REWARD_EXAMPLES!r} with examples for r3, got"
                " none; return it from the stage's loss_data"
            )
        examples: dict[str, Any] = {
            name: self.get_variable(REWARD_EXAMPLES, name) for name in ("inputs", "labels")
        }
        order = jax.random.permutation(
            shared_key(self.make_rng("loss"), axis_name), len(examples["labels"])
        )
        devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        rows = max(1, min(rows, len(order) // devices))
        first = 0 if axis_name is None else rows * jax.lax.axis_index(axis_name)
        drawn = jax.lax.dynamic_slice_in_dim(order, first, rows)
        inputs, labels = jax.tree.map(
            lambda x: jnp.asarray(x)[drawn], (examples["inputs"], examples["labels"])
        )
        correct = jnp.argmax(model(inputs).logits, axis=-1) == labels
        total, count = sum_devices((correct.astype(jnp.float32).sum(), rows * 1.0), axis_name)
        return total / count
