"""Checks jit, vmap, devices, masks and axes for every loss of logits."""

import functools

import jax
import numpy as np
import pytest

from akd_jax import losses
from experiments.benchmarks.losses import logits
from tests.support import loss_checks

RELATIONAL = ("dist", "multi_level")


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


CASES = logits.cases(8, 5)
every_case = by_name(CASES)
# test_class_axis.py does the same for these losses.
TESTED = ("cross_entropy", "annealed_mse", "continuation", "kl")
every_case_per_row = by_name([case for case in CASES if case.name not in (*RELATIONAL, *TESTED)])
# Other losses treat each row alike.
every_kind = by_name([case for case in CASES if case.name in ("kl", "dkd", *RELATIONAL)])


@every_case
def test_jit_and_vmap_change_nothing(case):
    loss_checks.check_transforms(case.jax, case.inputs())


@every_kind
def test_four_devices_equal_one_device(case):
    weights = [1, 1, 0, 1, 0, 0, 1, 1] if case.name in RELATIONAL else None
    loss_checks.check_devices(case.jax, case.inputs(), weights)


@pytest.mark.parametrize("name", RELATIONAL)
def test_rows_of_weight_0_change_nothing(name):
    inputs = next(case for case in CASES if case.name == name).inputs()
    loss_checks.check_padding(getattr(losses, name), inputs)


@every_case_per_row
def test_masked_classes_equal_removed_classes(case):
    inputs = case.inputs()
    kept = np.array([0, 2, 3])
    where = np.isin(np.arange(5), kept)
    if "labels" in inputs:
        inputs["labels"] = inputs["labels"] % 3
    removed = {n: x if n == "labels" else x[:, kept] for n, x in inputs.items()}
    masked = {
        n: kept[x] if n == "labels" else np.where(where, x, np.inf) for n, x in inputs.items()
    }
    expected, gradient = loss_checks.value_and_gradients(case.jax, removed)
    # The last row has no class that counts.
    where = np.tile(where, (9, 1))
    where[-1] = False
    masked = {n: np.concatenate([x, x[:1]]) for n, x in masked.items()}
    values, gradients = loss_checks.value_and_gradients(
        functools.partial(case.jax, where=where), masked
    )
    np.testing.assert_allclose(values, [*expected, 0], rtol=1e-5, atol=1e-6)
    for name, x in gradients.items():
        wanted = np.zeros_like(x)
        wanted[:-1, kept] = gradient[name] * 8 / 9
        np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-6)


@every_case_per_row
def test_axis_moves_the_classes_and_rows_may_be_tokens(case):
    inputs = {n: x.reshape(2, 4, *x.shape[1:]) for n, x in case.inputs().items()}
    moved = {n: x if n == "labels" else np.moveaxis(x, -1, 1) for n, x in inputs.items()}
    expected = case.jax(**case.inputs()).reshape(2, 4)
    values = jax.jit(functools.partial(case.jax, axis=1))(**moved)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
