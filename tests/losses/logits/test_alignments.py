"""CTC against an enumeration of all alignments and against PyTorch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.types import UNLABELLED
from experiments.benchmarks.losses import speech
from tests.support.logits import log_softmax
from tests.support.loss_checks import (
    check_devices,
    check_finite,
    check_pytorch,
    check_transforms,
    value_and_gradients,
)


def arrays_of(rows=4, frames=9, classes=5, labels=3):
    return speech.random_alignments(rows, frames, classes, labels)


def enumerated(logits, labels, frames, blank):
    """-log of the sum over all sequences of classes that collapse to the labels."""
    log_p = log_softmax(np.float64(logits))[:frames]
    total = -np.inf
    for path in itertools.product(range(log_p.shape[1]), repeat=frames):
        collapsed = [c for c, _ in itertools.groupby(path) if c != blank]
        if collapsed == list(labels):
            total = np.logaddexp(total, log_p[np.arange(frames), path].sum())
    return -total


@pytest.mark.parametrize("blank", [0, 2])
def test_values_are_those_of_all_alignments(blank):
    rng = np.random.default_rng(0)
    logits = np.float32(rng.normal(size=(4, 5, 3)))
    first, second = (x for x in range(3) if x != blank)
    rows, lengths = [[first], [second, second], [first, second], []], [5, 4, 3, 2]
    labels = np.int32([[*row, *[UNLABELLED] * (3 - len(row))] for row in rows])
    mask = np.arange(5) < np.c_[lengths]
    values = jax.jit(functools.partial(losses.ctc, blank=blank))(logits, labels, mask=mask)
    expected = [
        enumerated(x, row, n, blank) for x, row, n in zip(logits, rows, lengths, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    # The blank is padding, too.
    padded = np.where(labels == UNLABELLED, blank, labels)
    np.testing.assert_array_equal(losses.ctc(logits, padded, mask=mask, blank=blank), values)


def test_values_and_gradients_equal_pytorch():
    check_pytorch(losses.ctc, speech.ctc, arrays_of())
    check_pytorch(losses.ctc, speech.ctc, arrays_of(8, 60, 28, 12), gradient_tolerance=1e-4)


def test_transformations_and_devices_do_not_change_the_values():
    check_transforms(losses.ctc, arrays_of())
    check_devices(losses.ctc, arrays_of())


def test_what_padding_holds_does_not_matter():
    arrays = arrays_of()
    expected, wanted = value_and_gradients(losses.ctc, arrays)
    longer = {
        "student_logits": np.pad(arrays["student_logits"], ((0, 0), (0, 4), (0, 0))),
        "labels": np.pad(arrays["labels"], ((0, 0), (0, 2)), constant_values=UNLABELLED),
        "mask": np.pad(arrays["mask"], ((0, 0), (0, 4))),
    }
    longer["student_logits"][~longer["mask"]] = np.inf
    values, gradients = value_and_gradients(losses.ctc, longer)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    gradient = gradients["student_logits"]
    np.testing.assert_allclose(gradient[:, :9], wanted["student_logits"], rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(gradient[~longer["mask"]], 0)


def test_labels_without_an_alignment_have_no_value_and_no_gradient():
    labels = np.int32([[1, 2, 3], [1, 1, 0], [1, 1, 2], [1, 2, 1]])
    mask = np.arange(4) < np.c_[[2, 2, 4, 3]]  # Two equal labels need a blank between them.
    possible = jax.jit(losses.ctc_alignable)(labels, mask)
    assert possible.tolist() == [False, False, True, True]
    rng = np.random.default_rng(0)
    arrays = {
        "student_logits": np.float32(rng.normal(size=(4, 4, 5))),
        "labels": labels,
        "mask": mask,
    }
    values, gradients = value_and_gradients(losses.ctc, arrays)
    np.testing.assert_array_equal(values[:2], 0)
    np.testing.assert_array_equal(gradients["student_logits"][:2], 0)
    assert values[2:].min() > 0
    weighted = functools.partial(losses.ctc, weights=np.float32([1, 1, 0, 2]))
    np.testing.assert_array_equal(weighted(**arrays), [0, 0, 0, values[3]])
    counted = losses.ctc_alignable(labels, mask)
    mean = losses.masked_mean(losses.ctc(**arrays), counted)
    np.testing.assert_allclose(mean, values[2:].mean(), rtol=1e-6)


def test_extreme_logits_are_finite():
    arrays = arrays_of()
    signs = 80 * np.sign(arrays["student_logits"])
    for logits in (signs, 0 * signs, signs.astype(jnp.bfloat16)):
        check_finite(losses.ctc, {**arrays, "student_logits": logits})


def test_a_traced_label_out_of_range_is_visible():
    arrays = arrays_of()
    arrays["labels"][1, 0] = 7
    with jax.debug_nans(False):
        values = jax.jit(losses.ctc)(**arrays)
    assert np.isnan(values).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": np.ones((3, 2), np.int32)},
            r"same examples, got shapes \(4, 9, 5\) and \(3, 2",
        ),
        ({"labels": np.ones((4, 2))}, "labels: expected integers, got float"),
        ({"labels": np.full((4, 2), 5)}, f"from 0 to 4, got 5; mark padding by {UNLABELLED}"),
        ({"mask": np.ones((4, 8), bool)}, "mask: expected a shape that broadcasts to"),
        ({"weights": np.ones(3)}, r"weights: expected shape \(4,\), got \(3,\)"),
        ({"blank": 5}, "blank: expected a class from 0 to 4, got 5"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        losses.ctc(**{**arrays_of(), **changes})
