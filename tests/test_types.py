import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.types import UNLABELLED, Batch, Clock, Outputs, Task, Tokens, TopK, WeightedSum


def test_merged_weighted_sums_give_the_overall_mean():
    rng = np.random.default_rng(0)
    values, weights = np.float32(rng.normal(size=10)), np.float32(rng.uniform(size=10))
    parts = [WeightedSum.of(values[a:b], weights[a:b]) for a, b in ((0, 3), (3, 4), (4, 10))]
    merged = parts[0] + parts[1] + parts[2]
    np.testing.assert_allclose(merged.mean(), np.average(values, weights=weights), rtol=1e-5)


def test_clock_of_python_numbers_has_int32_scalars():
    clock = Clock.at(temperature_step=1, epoch=2, step=3, steps_per_epoch=4)
    assert jax.tree.leaves(clock) == [1, 2, 3, 4]
    assert (clock.temperature_step, clock.epoch, clock.step) == (1, 2, 3)
    assert all(leaf.dtype == jnp.int32 and leaf.shape == () for leaf in jax.tree.leaves(clock))
    assert jax.tree.leaves(Clock.at()) == [0, 0, 0, 1]


def test_tokens_mask_is_false_at_padding():
    ids = np.zeros((3, 4), np.int32)
    mask = Tokens(ids, ids, np.int32([2, 4, 0])).mask
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    assert mask.dtype == bool


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.int32([0, UNLABELLED, 3]), [True, False, True]),
        (np.int32([[UNLABELLED, 1], [0, 2]]), [[False, True], [True, True]]),
        (np.float32([0.0, np.nan, UNLABELLED]), [True, False, True]),  # -100 may be a target.
    ],
)
def test_missing_labels_are_marked_by_unlabelled_or_nan(labels, expected):
    batch = Batch(np.zeros((len(labels), 1)), labels, np.ones(len(labels), np.float32))
    with jax.debug_nans(False):
        labelled = batch.labelled
    np.testing.assert_array_equal(labelled, expected)


def test_top_k_keeps_the_probabilities_of_the_largest_logits():
    logits = np.random.default_rng(0).normal(size=(3, 4, 6))
    top = TopK.of(np.float32(logits), 2)
    order = np.argsort(-logits, axis=-1)[..., :2]
    np.testing.assert_array_equal(top.indices, order)
    assert top.indices.dtype == jnp.int32
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        np.exp(top.values - top.log_sum_exp[..., None]),
        np.take_along_axis(probabilities, order, axis=-1),
        rtol=1e-5,
    )


def test_outputs_have_no_features_and_no_top_k_by_default():
    outputs = Outputs(np.zeros((2, 3)))
    assert outputs.features == {}
    assert outputs.top_k is None
    assert len(jax.tree.leaves(outputs)) == 1


def test_tasks_describe_their_outputs_and_predictions():
    task = Task(("no", "yes"), ("f1", "accuracy"), codes=("0", "1"))
    assert (task.outputs, task.regression, task.metric) == (2, False, "f1")
    assert task.format_prediction(1) == "1"
    assert Task.numbered(12).labels[11] == Task.numbered(12).format_prediction(11) == "11"
    regression = Task((), ("pearson",))
    assert (regression.outputs, regression.regression) == (1, True)
    assert regression.format_prediction(1 / 3) == "0.333333"
