"""Compares every loss of logits with PyTorch, and checks it at extreme logits.

The identities of the single losses are in the files of their kinds.
"""

import functools

import jax
import numpy as np
import pytest

from akd_jax import losses
from experiments.benchmarks.losses import logits
from tests.support import loss_checks

WITHOUT_TEACHER = ("cross_entropy", "label_smoothing")
# The difference of two logits of -inf is not a number, and so is their error.
ERRORS = ("annealed_mse", "absolute_error", "continuation")


CASES = logits.cases(8, 5)
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@every_case
def test_value_and_gradient_equal_pytorch(case):
    loss_checks.check_pytorch(case.jax, case.torch, case.inputs())


def test_more_classes_than_rows_equal_pytorch():
    case = logits.cases(4, 9)[-1]
    assert case.name == "multi_level"
    loss_checks.check_pytorch(case.jax, case.torch, case.inputs())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kl", {"temperature": 3.0}),
        ("generalized_jsd", {"temperature": 2.0, "beta": 0.2}),
        ("skew_kl", {"temperature": 2.0, "skew": 0.4}),
        ("skew_reverse_kl", {"temperature": 2.0, "skew": 0.4}),
        ("dkd", {"temperature": 2.0, "alpha": 0.5, "beta": 3.0}),
        ("nkd", {"temperature": 3.0, "gamma": 3.5}),
        ("ofa", {"exponent": 1.5}),
        ("dist", {"temperature": 4.0, "inter": 0.5, "intra": 2.0}),
    ],
)
def test_other_options_equal_pytorch(name, options):
    inputs = next(case for case in CASES if case.name == name).inputs()
    loss_checks.check_pytorch(
        functools.partial(getattr(losses, name), **options),
        functools.partial(getattr(logits, name), **options),
        inputs,
    )


# Each shape and type is compiled again.
@pytest.mark.parametrize("every_shape", [False, pytest.param(True, marks=pytest.mark.slow)])
@every_case
def test_extreme_logits_give_finite_values_and_gradients(case, every_shape):
    skip = ()
    if case.name in ERRORS:
        skip = ("a class that both exclude", "a class that the teacher excludes")
    if case.name == "reverse_kl":
        skip = ("a class that the teacher excludes",)
    loss = case.jax
    if case.name in WITHOUT_TEACHER:
        loss = functools.partial(_without_teacher, case.jax)
    labels = {"labels": np.arange(4)} if "labels" in case.inputs() else {}
    loss_checks.check_extreme_logits(loss, skip=skip, every_shape=every_shape, **labels)


def _without_teacher(loss, student_logits, teacher_logits, labels):
    return loss(student_logits, labels)


@every_case
def test_a_logit_that_is_not_a_number_stays_visible(case):
    inputs = case.inputs()
    inputs["student_logits"][0, 1] = np.nan
    with jax.debug_nans(False):
        values = np.asarray(jax.jit(case.jax)(**inputs))
    assert np.isnan(values[0])
