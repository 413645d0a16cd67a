"""The loss of streams of tasks against NumPy, and with the teacher's own weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from akd_jax import losses
from akd_jax.types import UNLABELLED, Batch, Clock, Outputs, TargetVocabulary

SIZE = 11
TARGET = TargetVocabulary("", SIZE, start=1, end=2, pad=0, tasks=(("a", 9), ("b", 10)), decode=list)
CLASSES = [number for number in range(SIZE) if number not in (0, 9, 10)]
NEW = 3  # Rows of the new task.
T, LAMBDA = 2.0, 0.25


@pytest.fixture
def batch():
    """QA and LM rows, of which the first two are new; the last row fills up the batch."""
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, (5, 4)).astype(np.int32)
    labels[0, 0] = labels[2, 0] = UNLABELLED  # The prompts of QA rows.
    labels[0, 3] = labels[1, 3] = UNLABELLED  # Padding.
    return Batch(
        inputs=None,
        labels=labels,
        weights=np.float32([1, 1, 1, 1, 0]),
        ids=np.int32([0, 2, 3, 7, 1]),
    )


MASK = np.array([[0, 1, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]], bool)
IS_LM = np.array([0, 1, 0, 1, 0], bool)


def outputs(seed):
    logits = np.random.default_rng(seed).normal(size=(5, 4, SIZE)).astype(np.float32)
    return Outputs(jnp.asarray(logits), mask=jnp.asarray(MASK))


def expected_values(student, teacher, batch):
    """The value of each token by NumPy: of new rows the divergence, of others the cross-entropy."""
    z, t = (np.float64(x.logits)[..., CLASSES] for x in (student, teacher))
    log_p, log_q = log_softmax(t / T, axis=-1), log_softmax(z / T, axis=-1)
    soft = T**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    index = np.searchsorted(CLASSES, np.maximum(batch.labels, CLASSES[0]))
    hard = -np.take_along_axis(log_softmax(z, axis=-1), index[..., None], axis=-1)[..., 0]
    return np.where((batch.ids < NEW)[:, None], soft, hard), hard


def total(terms):
    """The sum of the scaled means of all terms."""
    sums = [
        (term.scale, (term.values * term.weights).sum(), term.weights.sum())
        for term in terms.values()
    ]
    return sum(scale * value / weight for scale, value, weight in sums if weight > 0)


@pytest.mark.parametrize("teacher", ["", "teacher_a"])
@pytest.mark.parametrize("split", [False, True])
def test_terms_equal_those_of_numpy(batch, teacher, split):
    loss = losses.StreamLoss(TARGET, NEW, teacher, T, LAMBDA, split)
    student, teachers = outputs(0), {"teacher_a": outputs(1)}
    terms = loss(student, teachers, batch, Clock.at())
    soft, hard = expected_values(student, teachers["teacher_a"], batch)
    values = soft if teacher else hard
    counted = (batch.labels != UNLABELLED) & MASK & (batch.weights > 0)[:, None]
    is_new = (batch.ids < NEW)[:, None] & np.ones_like(MASK)
    parts = {"qa": ~IS_LM[:, None] & counted, "lm": IS_LM[:, None] & counted}
    if split:
        parts = {
            **{name: part & is_new for name, part in parts.items()},
            **{f"replayed_{name}": part & ~is_new for name, part in parts.items()},
        }
    assert list(terms) == list(parts)
    for name, part in parts.items():
        np.testing.assert_array_equal(terms[name].weights, part)
        np.testing.assert_allclose(terms[name].values[part], values[part], rtol=1e-5)
    scales = [LAMBDA if name.endswith("lm") else 1 for name in parts]
    expected = sum(
        scale * values[part].mean() for scale, part in zip(scales, parts.values(), strict=True)
    )
    np.testing.assert_allclose(total(terms), expected, rtol=1e-5)


def test_the_teachers_own_logits_have_no_loss_and_no_gradient(batch):
    """All rows are new; logits of padding and of tokens of tasks do not count."""
    loss = losses.StreamLoss(TARGET, new_rows=100, teacher="teacher_a", temperature=T)
    teacher = outputs(0)
    others = np.array([c for c in range(SIZE) if c not in CLASSES])
    changed = teacher.replace(logits=teacher.logits.at[..., others].add(3.0))

    def value(logits):
        student = teacher.replace(logits=logits)
        return total(loss(student, {"teacher_a": teacher}, batch, Clock.at()))

    assert float(value(changed.logits)) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(jax.grad(value)(changed.logits), 0, atol=1e-6)


def test_batches_without_ids_are_refused(batch):
    loss = losses.StreamLoss(TARGET, NEW)
    with pytest.raises(ValueError, match="expected texts with the ids of their examples"):
        loss(outputs(0), {}, batch.replace(ids=None), Clock.at())
