"""Compares contrastive losses with PyTorch and NumPy, and the updates of their memory by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.models.network import Model
from akd_jax.teachers.live import StoredTeacher
from akd_jax.training.state import init_loss
from akd_jax.types import UNLABELLED, Batch, Clock, Outputs
from experiments.benchmarks.losses import relations as references
from tests.support.loss_checks import (
    check_devices,
    check_finite,
    check_padding,
    check_pytorch,
    check_transforms,
)
from tests.support.steps import (
    Linear,
    make_state,
    means,
    update_on_four,
    update_on_one,
    with_optimizer,
)

STUDENT, TEACHERS = Linear(3), {"teacher": StoredTeacher("teacher")}


def pair(rows=5, width=4):
    rng = np.random.default_rng(0)
    names = ("student_features", "teacher_features")
    return {name: np.float32(rng.normal(size=(rows, width))) for name in names}


def test_in_batch_equals_pytorch_and_the_closed_form():
    check_pytorch(losses.crd_in_batch, references.crd_in_batch, pair())
    check_pytorch(
        references.apply_in_batch_crd,
        references.in_batch_crd,
        references.projected_features(5, 3, 6, width=4),
    )
    values = losses.crd_in_batch(3 * np.eye(3, 4), np.eye(3, 4), temperature=0.5)
    np.testing.assert_allclose(values, np.log(1 + 2 * np.exp(-2)), rtol=1e-5)


def test_in_batch_transforms_devices_and_padding():
    cold = functools.partial(losses.crd_in_batch, temperature=0.3)
    check_transforms(cold, pair())
    check_padding(cold, pair())
    weights = [1, 1, 2, 1, 0, 0, 0, 0, 1, 0, 1, 0.5, 1, 1, 1, 1]
    check_devices(losses.crd_in_batch, pair(16), weights)


def test_in_batch_weights_count_copies():
    counts = np.array([1, 3, 1, 2, 1])
    copies = {name: np.repeat(x, counts, axis=0) for name, x in pair().items()}
    values = losses.crd_in_batch(**pair(), weights=np.float32(counts))
    np.testing.assert_allclose(np.repeat(values, counts), losses.crd_in_batch(**copies), rtol=1e-5)


def test_in_batch_extremes_are_finite():
    sharp = functools.partial(losses.crd_in_batch, temperature=0.001)
    check_finite(sharp, {name: x.astype(jnp.bfloat16) for name, x in pair().items()})
    check_finite(losses.crd_in_batch, {name: 0 * x for name, x in pair().items()})
    single = check_finite(losses.crd_in_batch, pair(rows=1))
    np.testing.assert_allclose(single, 0, atol=1e-5)
    padding = functools.partial(losses.crd_in_batch, weights=np.zeros(5, np.float32))
    np.testing.assert_array_equal(check_finite(padding, pair()), 0)


def test_in_batch_errors():
    student, teacher = pair().values()
    with pytest.raises(
        ValueError, match="student's width 4, got 3; use InBatchCRD, which projects"
    ):
        losses.crd_in_batch(student, teacher[:, :3])
    with pytest.raises(ValueError, match=r"^temperature: expected values greater than 0, got 0.0$"):
        losses.crd_in_batch(student, teacher, temperature=0.0)


def test_memory_equals_pytorch_if_all_examples_are_negatives():
    inputs = references.memory_inputs(4, examples=9, negatives=8, width=5, student=3, teacher=6)
    everything = np.arange(9)
    inputs["negatives"] = np.stack([np.delete(everything, i) for i in inputs["ids"]])
    check_pytorch(references.apply_crd, references.crd, inputs)


class ByHand:
    """The loss CRD of fixed projections in NumPy; all allowed examples are its negatives."""

    def __init__(self, loss, params, memory):
        self.loss, self.params = loss, jax.tree.map(np.float64, params["projections"])
        self.banks = [np.float64(memory[name]) for name in ("student", "teacher")]
        self.labels, self.z = np.array(memory["labels"]), [0.0, 0.0]

    def project(self, features, name):
        x = features @ self.params[name]["kernel"] + self.params[name]["bias"]
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def update(self, student, teacher, ids, labels, weights):
        """Returns the loss of a batch, and changes the memory."""
        features = self.project(student, "student"), self.project(teacher, "teacher")
        size, count, temperature = self.loss.examples, self.loss.negatives, self.loss.temperature
        ratio, real = count / size, np.flatnonzero(weights)
        values = np.zeros(len(ids))
        for side in (0, 1):
            scores = np.exp(features[side] @ self.banks[1 - side].T / temperature)
            samples = []
            for row in real:
                allowed = (self.labels != labels[row]) & (np.arange(size) != ids[row])
                samples.append((scores[row, ids[row]], scores[row, allowed]))
            if not self.z[side]:
                row_means = [(p + count * n.mean()) / (1 + count) for p, n in samples]
                self.z[side] = size * np.average(row_means, weights=weights[real])
            for row, (positive, negatives) in zip(real, samples, strict=True):
                p, n = positive / self.z[side], negatives / self.z[side]
                values[row] -= np.log(p / (p + ratio + 1e-7))
                values[row] -= count * np.log(ratio / (n + ratio + 1e-7)).mean()
        for row in real:
            self.labels[ids[row]] = labels[row]
            for bank, rows in zip(self.banks, features, strict=True):
                mixed = 0.7 * bank[ids[row]] + 0.3 * rows[row]
                bank[ids[row]] = mixed / np.linalg.norm(mixed)
        return np.average(values, weights=weights)


def memory_batch(seed):
    """A batch of 8 of 20 examples of 2 classes, 3 of them padding; the first 2 are in each."""
    rng = np.random.default_rng(seed)
    weights = np.float32(rng.uniform(0.5, 2, size=8))
    weights[5:] = 0  # One device has a padding row, and another one only padding rows.
    ids = np.concatenate([[0, 1], 2 + rng.permutation(18)[:3], [0, 19, 99]])
    features = np.float32(rng.normal(size=(8, 5)))
    return Batch(
        inputs=np.float32(rng.normal(size=(8, 4))),
        labels=np.int32(ids % 2),
        weights=weights,
        ids=np.int32(ids),
        stored={"teacher": Outputs(jnp.zeros((8, 2)), {"pooled": features})},
    )


def state_of(loss, batch, **options):
    variables = STUDENT.init(jax.random.key(1), batch.inputs)
    student = Model(variables, STUDENT.apply)
    # The shapes of a batch matter here; a concrete id of 99 would be refused.
    initial = init_loss(loss, jax.random.key(3), student, TEACHERS, batch.replace(ids=np.arange(8)))
    return make_state(
        STUDENT,
        batch.inputs,
        loss=loss,
        variables=variables,
        loss_variables=initial,
        optimizer=optax.sgd(0.0),
        **options,
    )


@pytest.mark.parametrize("update", [update_on_one, update_on_four])
def test_memory_changes_as_by_hand_over_three_updates(update):
    loss = losses.CRD(("scores", "pooled"), examples=20, negatives=30, width=4, momentum=0.7)
    batches = [memory_batch(seed) for seed in range(3)]
    state = state_of(loss, batches[0])
    memory = state.loss_state["memory"]
    assert np.abs(memory["student"]).max() <= np.sqrt(3 / 4)
    assert (memory["student"] != memory["teacher"]).all()
    np.testing.assert_array_equal(memory["labels"], UNLABELLED)
    np.testing.assert_array_equal(memory["normalisers"], 0)

    by_hand = ByHand(loss, state.params["loss"], memory)
    kernel = np.float64(state.params["student"]["Dense_0"]["kernel"])
    expected = [
        by_hand.update(
            batch.inputs @ kernel,
            np.float64(batch.stored["teacher"].features["pooled"]),
            batch.ids,
            batch.labels,
            batch.weights,
        )
        for batch in batches
    ]
    state, metrics = update(state, TEACHERS, batches)
    np.testing.assert_allclose([means(step)["loss"] for step in metrics], expected, rtol=1e-5)
    memory = state.loss_state["memory"]
    for name, bank in zip(("student", "teacher"), by_hand.banks, strict=True):
        np.testing.assert_allclose(memory[name], bank, atol=1e-6)
    np.testing.assert_array_equal(memory["labels"], by_hand.labels)
    shifted = np.array(by_hand.z) * np.exp(-1 / loss.temperature)
    np.testing.assert_allclose(memory["normalisers"], shifted, rtol=1e-5)


def test_drawn_negatives_are_the_same_on_four_devices_and_trained_with_the_student():
    loss = losses.CRD(("scores", "pooled"), examples=20, negatives=4, width=4)
    batches = [memory_batch(seed) for seed in range(2)]
    start = state_of(loss, batches[0])
    sgd = optax.sgd(0.1)
    start = with_optimizer(start, sgd)
    one, expected = update_on_one(start, TEACHERS, batches)
    four, actual = update_on_four(start, TEACHERS, batches)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(means(a)["loss"], means(b)["loss"], rtol=1e-5)
    for leaf, other in zip(jax.tree.leaves(four.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(leaf, other, atol=1e-5)
    before, after = (jax.tree.leaves(state.params) for state in (start, one))
    assert len(after) == 5  # Two projections with biases, and the student.
    for leaf, other in zip(before, after, strict=True):
        assert (leaf != other).any()


def test_each_part_of_a_batch_changes_the_memory_once():
    loss = losses.CRD(("scores", "pooled"), examples=20, negatives=30, width=4)
    batch = memory_batch(0).replace(weights=np.ones(8, np.float32), ids=np.arange(8))
    whole, _ = update_on_one(state_of(loss, batch), TEACHERS, [batch])
    parts, _ = update_on_one(state_of(loss, batch, grad_accumulation_steps=2), TEACHERS, [batch])
    for name in ("student", "teacher", "labels"):
        expected = whole.loss_state["memory"][name]
        np.testing.assert_allclose(parts.loss_state["memory"][name], expected, atol=1e-6)


def apply(loss, memory, ids, weights=(1.0, 1.0), labels=(0, 1), key=0):
    """Applies a loss of features of width 2 with projections that change nothing."""
    identity = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    layers = {"projections": {"student": identity, "teacher": identity}}
    outputs = Outputs(jnp.zeros((2, 1)), {"pooled": jnp.float32([[1, 0], [0, 1]])})
    batch = Batch(np.zeros(2), jnp.asarray(labels), jnp.stack(weights), ids=ids)
    terms, changed = loss.apply(
        {"params": layers, "memory": memory},
        outputs,
        {"teacher": outputs},
        batch,
        Clock.at(),
        rngs={"loss": jax.random.key(key)},
        mutable=["memory"],
    )
    return terms[""], changed["memory"]


def equal_memory(examples):
    """A memory in which all features are the same."""
    bank = jnp.full((examples, 2), 0.5**0.5)
    labels = jnp.full(examples, UNLABELLED, jnp.int32)
    return {"student": bank, "teacher": bank, "labels": labels, "normalisers": jnp.ones(2)}


def test_number_and_choice_of_negatives():
    loss = losses.CRD(examples=1000, negatives=100, width=2)
    memory = equal_memory(1000)
    memory["labels"] = memory["labels"].at[200:].set(1)  # The second row's class.
    # All scores are the same: the value is that of the positive plus a multiple of the number.
    p, ratio = np.exp((0.5**0.5 - 1) / 0.07), 0.1
    positive, negative = np.log((p + ratio) / p), np.log((p + ratio) / ratio)
    run = jax.jit(functools.partial(apply, loss, memory, np.array([3, 5])))
    values = np.array([jax.device_get(run(key=key)[0].values) for key in range(10)])
    counts = (values / 2 - positive) / negative
    np.testing.assert_allclose(counts, np.round(counts), atol=0.02)
    assert len(np.unique(np.round(counts))) > 5
    # 10 means of about 100 negatives of 999 or 199 allowed examples.
    np.testing.assert_allclose(counts.mean(axis=0), 100, atol=4 * (100 * 0.9 / 10) ** 0.5)


def test_an_example_that_is_twice_in_a_batch_counts_once():
    loss = losses.CRD(examples=3, width=2)
    run = jax.jit(functools.partial(apply, loss))
    _, memory = run(equal_memory(3), np.array([1, 1]))
    expected = np.float32([0.5**0.5 + 1, 0.5**0.5])
    np.testing.assert_allclose(memory["student"][1], expected / np.linalg.norm(expected), rtol=1e-5)
    assert memory["labels"].tolist() == [UNLABELLED, 0, UNLABELLED]


@pytest.mark.parametrize("labels", [np.float32([0.5, np.nan]), np.zeros((2, 3), np.int32)])
def test_without_class_indices_no_label_is_noted(labels):
    loss = losses.CRD(examples=3, width=2)
    run = jax.jit(functools.partial(apply, loss))
    _, memory = run(equal_memory(3), np.array([1, 2]), labels=labels)
    np.testing.assert_array_equal(memory["labels"], UNLABELLED)


def test_unknown_examples_are_refused_or_make_the_loss_nan():
    loss, memory = losses.CRD(examples=3, width=2), equal_memory(3)
    message = (
        r"^batch.ids: expected ids below CRD.examples = 3, got 3; set examples to the number of"
        " training examples\n"
    )
    with pytest.raises(ValueError, match=message):  # JAX adds a line on its traceback.
        apply(loss, memory, np.array([0, 3]))
    run = jax.jit(functools.partial(apply, loss, memory))
    with jax.debug_nans(False):
        for unknown in (3, -1):
            term, changed = run(np.array([0, unknown]))
            assert np.isnan(term.values).tolist() == [False, True]
            np.testing.assert_array_equal(changed["student"][1:], memory["student"][1:])
    # An unknown id of an example of weight 0 does not matter.
    term, _ = run(np.array([0, 3]), weights=(1.0, 0.0))
    assert np.isfinite(term.values).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "CRD.examples: expected the number of training examples, got 0; set"),
        ({"negatives": 0}, "CRD.negatives: expected at least 1, got 0"),
        ({"temperature": 0.0}, "CRD.temperature: expected above 0, got 0.0"),
        ({"momentum": 1.5}, "CRD.momentum: expected from 0 to 1, got 1.5"),
    ],
)
def test_options_of_the_memory_are_checked(options, message):
    loss = losses.CRD(**{"examples": 3, "width": 2, **options})
    with pytest.raises(ValueError, match=message):
        apply(loss, equal_memory(3), np.array([0, 1]))


def test_memory_needs_ids():
    with pytest.raises(
        ValueError, match="CRD: expected a batch with ids of its examples, got none"
    ):
        apply(losses.CRD(examples=3), equal_memory(3), None)
