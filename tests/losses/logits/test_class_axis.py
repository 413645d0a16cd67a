import jax
import numpy as np
import pytest

from akd_jax import losses
from tests.support.logits import LABELS, STUDENT, TEACHER, random_logits

CLASS_LOSSES = {
    "cross_entropy": lambda s, t, y, **kwargs: losses.cross_entropy(s, y, **kwargs),
    "kl": lambda s, t, y, **kwargs: losses.kl(s, t, 2.0, **kwargs),
    "annealed_mse": lambda s, t, y, **kwargs: losses.annealed_mse(s, t, 0.5, **kwargs),
    "annealed_mse_sum": lambda s, t, y, **kwargs: losses.annealed_mse(
        s, t, 0.5, class_reduction="sum", **kwargs
    ),
    "absolute_error": lambda s, t, y, **kwargs: losses.absolute_error(s, t, **kwargs),
    "absolute_error_mean": lambda s, t, y, **kwargs: losses.absolute_error(
        s, t, class_reduction="mean", **kwargs
    ),
    "continuation": lambda s, t, y, **kwargs: losses.continuation(
        s, t, y, 0.5, psi=0.25, margin=0.1, **kwargs
    ),
}
ALL_CLASS_LOSSES = pytest.mark.parametrize("loss", CLASS_LOSSES.values(), ids=CLASS_LOSSES)


@pytest.fixture
def masked_rows():
    """Logits [4, 7] whose classes 0, 2 and 5 are masked, with labels among the other four."""
    rng = np.random.default_rng(1)
    student, teacher = np.float32(3 * rng.normal(size=(2, 4, 7)))
    kept = np.array([1, 3, 4, 6])
    where = np.zeros(7, bool)
    where[kept] = True
    positions = rng.integers(0, 4, 4)
    return student, teacher, kept[positions], positions, where, kept


@ALL_CLASS_LOSSES
def test_masked_classes_equal_removed_classes(loss, masked_rows):
    student, teacher, labels, positions, where, kept = masked_rows
    student[:, ~where] = np.inf  # Masked logits may have any value.
    expected, sliced = jax.jit(
        jax.value_and_grad(lambda s: loss(s, teacher[:, kept], positions).sum(), argnums=0)
    )(student[:, kept])

    def masked(s, t, y, mask):
        return loss(s, t, y, where=mask).sum()

    # A mask of all rows; test_logit_transforms.py has masks of single rows.
    value, gradient = jax.jit(jax.value_and_grad(masked))(student, teacher, labels, where)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, kept], sliced, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(gradient[:, ~where], 0)


@ALL_CLASS_LOSSES
def test_a_row_without_a_valid_class_has_no_loss_and_no_gradient(loss, masked_rows):
    student, teacher, labels, _, where, _ = masked_rows
    mask = np.tile(where, (4, 1))
    mask[2] = False
    values, gradients = jax.jit(
        jax.vmap(jax.value_and_grad(lambda *args: loss(*args[:3], where=args[3])))
    )(student, teacher, labels, mask)
    assert values[2] == 0
    np.testing.assert_array_equal(gradients[2], 0)
    others = [0, 1, 3]
    np.testing.assert_allclose(
        values[np.array(others)],
        loss(student[others], teacher[others], labels[others], where=where),
        rtol=1e-5,
    )


@ALL_CLASS_LOSSES
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_axis_moves_the_classes(loss, axis):
    student, teacher, labels = random_logits()
    student, teacher = np.float32(student), np.float32(teacher)
    where = np.ones(student.shape, bool)
    where[..., 0] = labels == 0
    expected = loss(student, teacher, labels, where=where)
    moved = [np.moveaxis(array, -1, axis) for array in (student, teacher, where)]
    result = loss(moved[0], moved[1], labels, axis=axis, where=moved[2])
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_axis_applies_to_a_temperature_per_row():
    temperatures = np.float32([1.0, 3.0])
    np.testing.assert_allclose(
        losses.kl(STUDENT.T, TEACHER.T, temperatures, axis=0),
        losses.kl(STUDENT, TEACHER, temperatures),
        rtol=1e-6,
    )


@ALL_CLASS_LOSSES
def test_a_mask_must_be_boolean_and_fit_the_logits(loss):
    with pytest.raises(ValueError, match="where: expected a boolean mask, got float32"):
        loss(STUDENT, TEACHER, LABELS, where=np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"where: expected a shape that broadcasts to \(2, 3\)"):
        loss(STUDENT, TEACHER, LABELS, where=np.ones(2, bool))
