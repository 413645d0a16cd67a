"""The absolute error of logits; test_logit_losses.py compares it with PyTorch."""

import jax
import numpy as np
import pytest

from akd_jax import losses
from tests.support.logits import STUDENT, TEACHER


def test_absolute_error_by_hand():
    np.testing.assert_allclose(losses.absolute_error(STUDENT, TEACHER), [3 + 2 + 2, 1 + 2 + 0])
    mean = losses.absolute_error(STUDENT, TEACHER, class_reduction="mean")
    np.testing.assert_allclose(mean, [7 / 3, 1], rtol=1e-6)
    gradients = jax.grad(lambda s, t: losses.absolute_error(s, t).sum(), (0, 1))(STUDENT, TEACHER)
    np.testing.assert_array_equal(gradients[0], np.sign(STUDENT - TEACHER))
    np.testing.assert_array_equal(gradients[1], 0)


def test_a_class_that_both_models_exclude_has_no_error():
    student, teacher = (np.float32([*row, -np.inf]) for row in (STUDENT[0], TEACHER[0]))
    for reduction, divisor in (("sum", 1), ("mean", 4)):

        def loss(student, reduction=reduction):
            return losses.absolute_error(student, teacher, class_reduction=reduction)

        value, gradient = jax.value_and_grad(loss)(student)
        np.testing.assert_allclose(value, 7 / divisor, rtol=1e-6)
        np.testing.assert_allclose(gradient, np.float32([-1, 1, 1, 0]) / divisor)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="'mean' or 'sum', got 'none'"):
        losses.absolute_error(STUDENT, TEACHER, class_reduction="none")
