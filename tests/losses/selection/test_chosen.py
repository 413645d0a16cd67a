"""Teachers that a rule chooses for each example, and teachers that stand for a fold."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.teachers.live import StoredTeacher
from akd_jax.types import UNLABELLED
from tests.support.selection import NAMES, TEACHERS, B, batch_of, losses_of, state_of
from tests.support.steps import arrays, assert_close, means, update_on_four, update_on_one

STILL = optax.sgd(0.0)


def records_of(loss, batch, updates=1):
    """The records of updates that change nothing, and the student's logits."""
    state = state_of(batch, loss, STILL)
    _, records = update_on_one(state, TEACHERS, [batch] * updates)
    logits = batch.inputs @ np.asarray(state.params["student"]["Dense_0"]["kernel"])
    return [means(x) for x in records], logits


def assert_losses(record, logits, batch, weights):
    hard, soft = losses_of(logits, batch, np.broadcast_to(weights, (B, 2)))
    assert record["labels"] == pytest.approx(hard.mean(), rel=1e-5)
    assert record["soft"] == pytest.approx(soft.mean(), rel=1e-5)
    assert record["loss"] == pytest.approx(0.3 * hard.mean() + 0.7 * soft.mean(), rel=1e-5)


@pytest.mark.parametrize("weights", [(), (0.0, 1.0), (3.0, 1.0)])
def test_weighted_mean_of_the_teachers_by_hand(weights):
    batch = batch_of()
    (record,), logits = records_of(losses.TeacherSelection(NAMES, weights=weights), batch)
    assert_losses(record, logits, batch, weights or (1, 1))
    assert (record["rate_one"], record["rate_two"]) == (weights or (1, 1))
    assert record["empty"] == 0


def test_lowest_error_chooses_the_best_teacher_and_all_without_a_label():
    batch = batch_of()
    labels = np.where(np.arange(B) < 5, batch.labels, UNLABELLED)
    errors = [
        -np.asarray(jax.nn.log_softmax(x.logits))[np.arange(B), batch.labels]
        for x in batch.stored.values()
    ]
    best = np.eye(2)[np.argmin(errors, axis=0)]
    assert 0 < best[:5, 0].sum() < 5
    weights = np.where(labels[:, None] >= 0, best, 1)
    loss = losses.TeacherSelection(NAMES, rule="lowest_error")
    (record,), logits = records_of(loss, batch.replace(labels=labels))
    hard, soft = losses_of(logits, batch, weights)
    assert record["labels"] == pytest.approx(hard[:5].mean(), rel=1e-5)
    assert record["soft"] == pytest.approx(soft.mean(), rel=1e-5)
    assert record["empty"] == pytest.approx(3 / 8)


def test_one_random_teacher_teaches_all_examples_of_an_update():
    batch = batch_of()
    loss = losses.TeacherSelection(NAMES, rule="random_teacher")
    records, logits = records_of(loss, batch, updates=24)
    chosen = [(x["rate_one"], x["rate_two"]) for x in records]
    assert set(chosen) == {(0, 1), (1, 0)}
    for record, weights in zip(records, chosen, strict=True):
        assert_losses(record, logits, batch, weights)


def test_random_teachers_have_their_rates():
    loss = losses.TeacherSelection(NAMES, rule="random", weights=(0.9, 0.25))
    records, _ = records_of(loss, batch_of(), updates=200)
    count = 200 * B
    for name, rate in zip(NAMES, (0.9, 0.25), strict=True):
        mean = np.mean([x[f"rate_{name}"] for x in records])
        assert abs(mean - rate) < 4 * np.sqrt(rate * (1 - rate) / count)
    empty = np.mean([x["empty"] for x in records])
    assert abs(empty - 0.1 * 0.75) < 4 * np.sqrt(0.075 * 0.925 / count)


@pytest.mark.parametrize("rule", ["weighted", "random", "random_teacher", "lowest_error"])
@pytest.mark.parametrize("fallback", ["all", "none"])
def test_four_devices_choose_like_one(rule, fallback):
    batches = [batch_of([1, 1, 2, 1, 0.5, 1, 0, 0], seed) for seed in range(3)]
    loss = losses.TeacherSelection(NAMES, rule=rule, weights=(0.5, 0.5), fallback=fallback)
    start = state_of(batches[0], loss)
    one, records = update_on_one(start, TEACHERS, batches)
    four, others = update_on_four(start, TEACHERS, batches)
    assert_close(arrays(four), arrays(one), 1e-6)
    for a, b in zip(records, others, strict=True):
        assert means(a) == pytest.approx(means(b), abs=1e-6)


def test_a_policy_that_does_not_learn_equals_the_rule_bit_for_bit():
    batch = batch_of([1, 1, 2, 1, 0.5, 1, 0, 1])
    rule = state_of(batch, losses.TeacherSelection(NAMES))
    expected, _ = update_on_one(rule, TEACHERS, [batch] * 3)
    policy = state_of(batch, losses.ReinforcedSelection(NAMES), loss_optimizer=STILL)
    bias = {**policy.params["loss"]["policy"], "bias": jnp.float32([50, 50])}
    policy = policy.replace(params={**policy.params, "loss": {"policy": bias}})
    actual, _ = update_on_one(policy, TEACHERS, [batch] * 3)
    jax.tree.map(
        np.testing.assert_array_equal, actual.params["student"], expected.params["student"]
    )


def test_each_example_is_taught_by_the_teachers_of_its_fold():
    assert losses.fold_names("one", 2) == ["one_fold_0", "one_fold_1"]
    names = [x for name in NAMES for x in losses.fold_names(name, 2)]
    batch = batch_of(names=names)
    batch = batch.replace(ids=np.int32([4, 7, 2, 2, 9, 1, 0, 3]))
    fold = batch.ids % 2
    own = {
        name: batch.stored[f"{name}_fold_0"].replace(
            logits=np.where(
                fold[:, None] == 0,
                batch.stored[f"{name}_fold_0"].logits,
                batch.stored[f"{name}_fold_1"].logits,
            )
        )
        for name in NAMES
    }
    teachers = {name: StoredTeacher(name) for name in names}
    for loss in (losses.TeacherSelection, losses.ReinforcedSelection):
        expected, _ = update_on_one(
            state_of(batch.replace(stored=own), loss(NAMES)),
            TEACHERS,
            [batch.replace(stored=own)] * 2,
        )
        actual, _ = update_on_one(state_of(batch, loss(NAMES, folds=2)), teachers, [batch] * 2)
        assert_close(arrays(actual), arrays(expected), 1e-6)
    with pytest.raises(ValueError, match="folds: expected batches with the ids"):
        update_on_one(state_of(batch, loss(NAMES, folds=2)), teachers, [batch.replace(ids=None)])


def test_examples_without_a_teacher_count_as_0_in_the_mean():
    """An example learns as much from its teachers, however many examples have none."""
    batch, never = batch_of(), losses.TeacherSelection(NAMES, rule="lowest_error", fallback="none")
    labels = np.where(np.arange(B) < 2, batch.labels, UNLABELLED)  # The others have no best one.
    (record,), _ = records_of(never, batch.replace(labels=labels))
    (whole,), _ = records_of(never, batch)
    labelled = batch.replace(weights=np.float32(np.arange(B) < 2))
    (part,), _ = records_of(never, labelled)
    assert record["empty"] == 0.75
    assert whole["empty"] == part["empty"] == 0
    assert record["soft"] == pytest.approx(part["soft"] * 2 / B, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.5}, "weight: expected a number from 0 to 1, got 1.5"),
        ({"folds": -1}, "folds: expected at least 0, got -1"),
        ({"rule": "best"}, "rule: expected one of weighted, random, random_teacher, lowest_error"),
        ({"weights": (1.0,)}, "weights: expected a number from 0 to inf for each of one, two, got"),
        ({"weights": (1.0, -0.5)}, "weights: expected a number from 0 to inf .*, got .*-0.5"),
        ({"rule": "random", "weights": (1.5, 0.5)}, "weights: expected a number from 0 to 1 .*1.5"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        state_of(batch_of(), losses.TeacherSelection(NAMES, **options))


@pytest.mark.parametrize("names", [("one",), ("one", "one")])
def test_wrong_names_are_refused(names):
    with pytest.raises(ValueError, match="teachers: expected at least two different names, got"):
        state_of(batch_of(), losses.TeacherSelection(names))
