"""Teachers that a policy chooses: its gradient, the student's, the actions and the rewards."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.types import UNLABELLED, Outputs
from tests.support.selection import CLOCK, NAMES, TEACHERS, B, C, D, batch_of, losses_of, state_of
from tests.support.steps import (
    Linear,
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)


def policy_inputs(batch):
    """The state of each example, by hand: probabilities, then cross-entropies."""
    p = [np.asarray(jax.nn.softmax(x.logits)) for x in batch.stored.values()]
    errors = [-np.log(x[np.arange(B), batch.labels]) for x in p]
    return np.concatenate([*p, np.stack(errors, axis=1)], axis=1)


def test_policy_gradient_is_that_of_the_expected_reward():
    """The mean over many draws, against the sum over all four actions of each example."""
    batch, rng = batch_of(), np.random.default_rng(5)
    student = np.float32(rng.normal(size=(B, C)))
    kernel, bias = np.float32(0.3 * rng.normal(size=(8, 2))), np.float32([0.2, -0.4])
    inputs = policy_inputs(batch)
    rewards = {
        actions: -sum(losses_of(student, batch, np.tile(actions, (B, 1))))
        for actions in itertools.product((False, True), repeat=2)
    }

    def expected_reward(kernel, bias):
        rates = jax.nn.sigmoid(inputs @ kernel + bias)
        total = 0.0
        for actions, reward in rewards.items():
            chosen = jnp.where(jnp.array(actions), rates, 1 - rates).prod(axis=1)
            total += (chosen * reward).mean()
        return total

    expected = jax.grad(expected_reward, (0, 1))(kernel, bias)
    running = {"mean": jnp.float32(-2.0), "batches": jnp.float32(3.0)}

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.vmap, in_axes=(0, None))
    def sampled(key, loss):
        def value(params):
            terms, _ = loss.apply(
                {"params": {"policy": params}, "baseline": running},
                Outputs(student),
                batch.stored,
                batch,
                CLOCK,
                rngs={"loss": key},
                model=lambda inputs: Outputs(student),
                method="after_update",
                mutable=["baseline"],
            )
            return terms["policy"].values.mean()

        return jax.grad(value)({"kernel": kernel, "bias": bias})

    keys, spread = jax.random.split(jax.random.key(0), 20_000), {}
    for baseline in ("none", "running"):
        gradients = sampled(keys, losses.ReinforcedSelection(NAMES, baseline=baseline))
        clear = []
        for actual, exact in zip((gradients["kernel"], gradients["bias"]), expected, strict=True):
            error = np.std(actual, axis=0) / np.sqrt(len(actual))
            assert (np.abs(-np.mean(actual, axis=0) - exact) < 4.5 * error).all()
            clear.append((np.abs(exact) > 10 * error).any())
        assert any(clear)  # So the comparison says something.
        spread[baseline] = np.std(gradients["kernel"], axis=0)
    # A baseline near the mean reward makes the draws less scattered.
    assert (spread["running"] < spread["none"]).all()


@pytest.mark.slow  # The gradient is compared with that of all actions.
def test_policy_chooses_the_teacher_that_is_rewarded():
    batch = batch_of()
    loss = losses.ReinforcedSelection(NAMES, labels=False)
    state = state_of(batch, loss, optax.sgd(0.0), optax.sgd(3.0))
    # The student equals the first teacher: the KL divergence is 0 if only that one is chosen.
    weights = np.asarray(state.params["student"]["Dense_0"]["kernel"])
    first = Outputs(batch.inputs @ weights)
    batch = batch.replace(stored={"one": first, "two": Outputs(-3 * first.logits)})
    state, records = update_on_one(state, TEACHERS, [batch] * 300)
    start, end = means(records[0]), means(records[-1])
    assert 0.1 < start["rate_one"] < 0.9
    assert end["rate_one"] == 1
    assert end["rate_two"] == end["empty"] == 0
    assert end["reward"] > start["reward"]
    assert end["entropy"] < 0.3 < start["entropy"] == pytest.approx(2 * np.log(2))


def with_bias(state, bias):
    """The state with a policy that ignores its input."""
    policy = {**state.params["loss"]["policy"], "bias": jnp.float32(bias)}
    return state.replace(params={**state.params, "loss": {"policy": policy}})


def test_student_learns_from_all_teachers_as_from_their_mean():
    batch = batch_of(weights=[1, 1, 2, 1, 0.5, 1, 0, 1])
    loss = losses.ReinforcedSelection(NAMES, temperature=2.0)

    def soft(student, teachers, batch, clock):
        logits = jnp.stack([teachers[name].logits for name in NAMES])
        return losses.kl(student.logits, losses.average_teachers(logits, temperature=2.0), 2.0)

    uniform = losses.compose(labels=(1 - 0.7, losses.supervised), soft=(0.7, soft))
    reference = make_state(
        Linear(), batch.inputs, loss=uniform, optimizer=optax.sgd(0.1), key=jax.random.key(1)
    )
    expected, _ = update_on_one(reference, TEACHERS, [batch] * 3)
    always = with_bias(state_of(batch, loss, loss_optimizer=optax.sgd(0.0)), [50.0, 50.0])
    actual, records = update_on_one(always, TEACHERS, [batch] * 3)
    assert means(records[-1])["rate_one"] == means(records[-1])["rate_two"] == 1
    jax.tree.map(
        np.testing.assert_array_equal, actual.params["student"], expected.params["student"]
    )
    # Without a chosen teacher, the fallback decides.
    never = with_bias(state_of(batch, loss, loss_optimizer=optax.sgd(0.0)), [-50.0, -50.0])
    actual, records = update_on_one(never, TEACHERS, [batch] * 3)
    assert means(records[-1])["empty"] == 1
    jax.tree.map(
        np.testing.assert_array_equal, actual.params["student"], expected.params["student"]
    )


def test_nothing_chosen_leaves_only_the_labels_without_a_fallback():
    batch = batch_of()
    loss = losses.ReinforcedSelection(NAMES, fallback="none", weight=0.5)
    never = with_bias(state_of(batch, loss, loss_optimizer=optax.sgd(0.0)), [-50.0, -50.0])
    reference = make_state(
        Linear(),
        batch.inputs,
        loss=losses.compose(labels=(0.5, losses.supervised)),
        optimizer=optax.sgd(0.1),
        key=jax.random.key(1),
    )
    expected, _ = update_on_one(reference, TEACHERS, [batch])
    actual, records = update_on_one(never, TEACHERS, [batch])
    assert_close(actual.params["student"], expected.params["student"], 1e-7)
    assert means(records[0])["reward"] == pytest.approx(
        -losses_of(
            batch.inputs @ actual.params["student"]["Dense_0"]["kernel"], batch, np.ones((B, 2))
        )[0].mean(),
        rel=1e-5,
    )


@pytest.mark.parametrize("reward", ["r1", "r2"])
def test_reward_is_that_of_the_updated_student(reward):
    batch = batch_of()
    loss = losses.ReinforcedSelection(NAMES, reward=reward)
    always = with_bias(state_of(batch, loss), [50.0, 50.0])
    state, records = update_on_one(always, TEACHERS, [batch])
    logits = batch.inputs @ np.asarray(state.params["student"]["Dense_0"]["kernel"])
    hard, soft = losses_of(logits, batch, np.ones((B, 2), bool))
    expected = -hard if reward == "r1" else -hard - soft
    assert means(records[0])["reward"] == pytest.approx(expected.mean(), rel=1e-5)
    assert means(records[0])["baseline"] == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("baseline", ["batch", "running"])
def test_four_devices_choose_like_one_and_padding_counts_for_nothing(baseline):
    weights = [1, 1, 2, 1, 0.5, 1, 0, 0]  # A device has only rows that fill up the batch.
    batches = [batch_of(weights, seed) for seed in range(3)]
    loss = losses.ReinforcedSelection(NAMES, baseline=baseline)
    start = state_of(batches[0], loss)
    one, records = update_on_one(start, TEACHERS, batches)
    four, others = update_on_four(start, TEACHERS, batches)
    assert_close(arrays(four), arrays(one), 1e-6)
    for a, b in zip(records, others, strict=True):
        assert means(a) == pytest.approx(means(b), abs=1e-6)
    changed = [
        batch.replace(inputs=np.where(batch.weights[:, None] > 0, batch.inputs, 9.0))
        for batch in batches
    ]
    padded, _ = update_on_one(start, TEACHERS, changed)
    jax.tree.map(np.testing.assert_array_equal, arrays(padded), arrays(one))


def test_actions_differ_between_updates_and_repeat_with_the_key():
    batch, loss = batch_of(), losses.ReinforcedSelection(NAMES)
    start = state_of(batch, loss, optax.sgd(0.0), optax.sgd(0.0))
    _, first = update_on_one(start, TEACHERS, [batch] * 20)
    _, again = update_on_one(start, TEACHERS, [batch] * 20)
    rates = [means(x)["rate_one"] for x in first]
    assert rates == [means(x)["rate_one"] for x in again]
    assert len(set(rates)) > 3
    assert 0.4 < np.mean(rates) < 0.6


def reward_examples(count, seed=8):
    rng = np.random.default_rng(seed)
    examples = {
        "inputs": np.float32(rng.normal(size=(count, D))),
        "labels": np.int32(rng.integers(0, C, count)),
    }
    return {losses.REWARD_EXAMPLES: examples}


def test_r3_adds_the_accuracy_of_the_updated_student_on_other_examples():
    batches = [batch_of([1, 1, 2, 1, 0.5, 1, 0, 0], seed) for seed in range(3)]
    loss = losses.ReinforcedSelection(NAMES, reward="r3", gamma=0.25, baseline="running")
    data = reward_examples(B)  # As many as a batch, so that all of them are read.
    start = with_bias(state_of(batches[0], loss, optax.sgd(1.0), data=data), [50.0, 50.0])
    state, records = update_on_one(start, TEACHERS, batches[:1])
    kernel = np.asarray(state.params["student"]["Dense_0"]["kernel"])
    examples = data[losses.REWARD_EXAMPLES]
    accuracy = np.mean((examples["inputs"] @ kernel).argmax(axis=1) == examples["labels"])
    own = -sum(losses_of(batches[0].inputs @ kernel, batches[0], np.ones((B, 2))))
    weights = batches[0].weights
    expected = 0.25 * np.average(own, weights=weights) + 0.75 * accuracy
    assert 0 < accuracy < 1
    record = means(records[0])
    assert record["reward_accuracy"] == pytest.approx(accuracy)
    assert record["reward"] == record["baseline"] == pytest.approx(expected, rel=1e-5)
    one, _ = update_on_one(start, TEACHERS, batches)
    four, _ = update_on_four(start, TEACHERS, batches)
    assert_close(arrays(four), arrays(one), 1e-6)


@pytest.mark.parametrize(
    ("reward", "baseline"),
    [("r2", "batch"), ("r2", "running"), ("r2", "none"), ("r3", "running"), ("r3", "none")],
)
def test_policy_loss_is_that_of_the_reward_above_its_baseline(reward, baseline):
    loss = losses.ReinforcedSelection(NAMES, reward=reward, baseline=baseline, momentum=0.75)
    batches = [batch_of([1, 1, 2, 1, 0.5, 1, 0, 0], seed) for seed in range(4)]
    data = reward_examples(40) if reward == "r3" else None
    start = state_of(batches[0], loss, loss_optimizer=optax.sgd(0.0), data=data)
    _, records = update_on_one(start, TEACHERS, batches)
    mean = None
    for record in map(means, records):
        # The running mean of the batches before; the first batch has none.
        before = record["reward"] if mean is None else mean
        expected = {"batch": record["reward"], "running": before, "none": 0.0}[baseline]
        assert record["baseline"] == pytest.approx(expected, rel=1e-5)
        # An untrained policy chooses each of two teachers with probability 1/2.
        policy = (record["reward"] - record["baseline"]) * 2 * np.log(2)
        assert record["policy"] == pytest.approx(policy, abs=1e-5)
        mean = record["reward"] if mean is None else 0.75 * mean + 0.25 * record["reward"]


def test_examples_without_a_label_give_no_reward():
    """Other examples without a label change nothing that the policy learns."""
    batch = batch_of()
    labels = np.where(np.arange(B) < 5, batch.labels, UNLABELLED)
    other = {name: Outputs(x.logits.copy()) for name, x in batch.stored.items()}
    for outputs in other.values():
        outputs.logits[5:] *= -3
    loss = losses.ReinforcedSelection(NAMES, baseline="running")
    results = []
    for stored in (batch.stored, other):
        start = state_of(batch, loss, optax.sgd(0.0))
        changed = batch.replace(labels=labels, stored=stored)
        results.append(update_on_one(start, TEACHERS, [changed] * 2))
    (first, records), (second, others) = results
    assert_close(first.params, second.params, 1e-7)
    for a, b in zip(map(means, records), map(means, others), strict=True):
        assert a["soft"] != pytest.approx(b["soft"], rel=0.01)
        assert a["reward"] == pytest.approx(b["reward"])
        assert a["baseline"] == pytest.approx(b["baseline"])


@pytest.mark.parametrize("count", [3, 40])
def test_r3_reads_a_random_batch_of_many_examples(count):
    batch = batch_of()
    loss = losses.ReinforcedSelection(NAMES, reward="r3", baseline="none")
    start = state_of(batch, loss, optax.sgd(0.0), optax.sgd(0.0), data=reward_examples(count))
    _, records = update_on_four(start, TEACHERS, [batch] * 12)
    accuracies = np.array([means(x)["reward_accuracy"] for x in records])
    examples = reward_examples(count)[losses.REWARD_EXAMPLES]
    kernel = np.asarray(start.params["student"]["Dense_0"]["kernel"])
    mean = np.mean((examples["inputs"] @ kernel).argmax(axis=1) == examples["labels"])
    assert abs(accuracies.mean() - mean) < 0.15
    read = min(count // 4 * 4 or 4, B)
    np.testing.assert_allclose(accuracies * read, np.round(accuracies * read), atol=1e-5)


def test_reward_before_the_update_is_that_of_the_student_that_the_update_starts_from():
    batch = batch_of()
    loss = losses.ReinforcedSelection(NAMES, before_update=True)
    start = state_of(batch, loss, optax.sgd(1.0))
    _, records = update_on_one(start, TEACHERS, [batch])
    record = means(records[0])
    assert record["reward"] == pytest.approx(-record["labels"] - record["soft"], rel=1e-5)
    after = state_of(batch, losses.ReinforcedSelection(NAMES), optax.sgd(1.0))
    _, others = update_on_one(after, TEACHERS, [batch])
    assert means(others[0])["reward"] > record["reward"]
    # Without an update of the student, both are the same, and so is the policy.
    states = [
        update_on_one(state_of(batch, x, optax.sgd(0.0)), TEACHERS, [batch] * 3)[0]
        for x in (loss, losses.ReinforcedSelection(NAMES))
    ]
    assert_close(states[0].params, states[1].params, 1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"reward": "r3", "before_update": True},
            "reward: expected r1 or r2 before the .*, got r3",
        ),
        ({"reward": "r4"}, "reward: expected one of r1, r2, r3, got 'r4'"),
        ({"baseline": "mean"}, "baseline: expected one of batch, running, none, got 'mean'"),
        ({"fallback": "one"}, "fallback: expected one of all, none, got 'one'"),
        ({"gamma": 1.5}, "gamma: expected a number from 0 to 1, got 1.5"),
        ({"momentum": -0.1}, "momentum: expected a number from 0 to 1, got -0.1"),
        ({"reward": "r3"}, "baseline: expected running or none for the reward r3, .* got batch"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        state_of(batch_of(), losses.ReinforcedSelection(NAMES, **options))


def test_r3_needs_examples():
    batch = batch_of()
    loss = losses.ReinforcedSelection(NAMES, reward="r3", baseline="running")
    with pytest.raises(ValueError, match="reward: expected the collection 'reward_examples'"):
        update_on_one(state_of(batch, loss), TEACHERS, [batch])


def test_a_sum_of_losses_refuses_a_policy_that_it_would_not_train():
    loss = losses.ReinforcedSelection(NAMES)
    terms = {"labels": (1.0, losses.supervised), "policy": (1.0, loss)}
    for combine in (losses.compose, losses.balance):
        with pytest.raises(ValueError, match="got ReinforcedSelection, which learns after the"):
            combine(**terms)
    losses.compose(policy=(1.0, losses.ReinforcedSelection(NAMES, before_update=True)))


def test_accumulated_parts_give_the_rewards_of_the_whole_batch():
    batch = batch_of([1, 1, 2, 1, 0.5, 1, 0, 0])
    loss = losses.ReinforcedSelection(NAMES, baseline="none")
    whole = with_bias(state_of(batch, loss), [50.0, 50.0])
    one, records = update_on_one(whole, TEACHERS, [batch] * 2)
    parts = whole.replace(grad_accumulation_steps=2)
    two, others = update_on_one(parts, TEACHERS, [batch] * 2)
    assert_close(arrays(two), arrays(one), 1e-6)
    for a, b in zip(records, others, strict=True):
        assert means(a) == pytest.approx(means(b), abs=1e-6)
