import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from tests.support.logits import STUDENT, cross_entropy, log_softmax, random_logits


def test_cross_entropy_by_hand():
    loss = losses.cross_entropy(jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]])), jnp.array([0, 1]))
    np.testing.assert_allclose(loss, -np.log([0.2, 0.5]), rtol=1e-6)


def test_cross_entropy_equals_numpy():
    student, _, labels = random_logits()
    loss = losses.cross_entropy(jnp.float32(student), labels)
    np.testing.assert_allclose(loss, cross_entropy(student, labels), rtol=1e-5)


def test_squared_error_by_hand():
    loss = losses.squared_error(jnp.array([[1.0], [-2.0]]), jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(loss, [0.25, 9.0], rtol=1e-6)
    assert loss.dtype == jnp.float32


@pytest.mark.parametrize("shape", [(4,), (4, 2), (1, 4), (4, 1, 1)])
def test_squared_error_does_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"expected shape \(4, 1\) for labels of shape \(4,\)"):
        losses.squared_error(jnp.zeros(shape), jnp.zeros(4))


def test_supervised_selects_the_loss_by_the_dtype_of_the_labels():
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    classes = losses.supervised(logits, jnp.array([1, 0]))
    np.testing.assert_allclose(classes, -np.log([0.8, 0.5]), rtol=1e-6)
    numbers = losses.supervised(jnp.array([[3.0], [-1.0]]), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(numbers, [4.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("as_array", [np.array, jnp.array])
@pytest.mark.parametrize("label", [-1, -100, 3, 1000])
def test_cross_entropy_rejects_labels_out_of_range(as_array, label):
    with pytest.raises(ValueError, match=rf"labels: expected .* from 0 to 2, got {label};"):
        losses.cross_entropy(STUDENT, as_array([0, label]))


@pytest.mark.parametrize("label", [-1, -100, 3, 1000])
def test_cross_entropy_of_traced_labels_out_of_range_is_nan(label):
    def total(logits, labels):
        return losses.cross_entropy(logits, labels).sum()

    with jax.debug_nans(False):
        values = jax.jit(losses.cross_entropy)(STUDENT, jnp.array([0, label]))
        gradient = jax.jit(jax.grad(total))(STUDENT, jnp.array([0, label]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])
    np.testing.assert_array_equal(np.isnan(gradient), [[False] * 3, [True] * 3])


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.supervised])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8])
def test_positions_with_the_ignore_index_have_no_loss_and_no_gradient(transform, loss, dtype):
    labels = jnp.array([1, -100], dtype)
    value_and_gradient = jax.value_and_grad(
        lambda z, y: loss(z, y, ignore_index=-100).sum(), argnums=0
    )
    value, gradient = transform(value_and_gradient)(STUDENT, labels)
    q = np.exp(log_softmax(np.asarray(STUDENT)))
    np.testing.assert_allclose(value, -np.log(q[0, 1]), rtol=1e-6)
    np.testing.assert_allclose(gradient, [q[0] - [0, 1, 0], [0, 0, 0]], rtol=1e-5)


def test_cross_entropy_of_a_masked_label_is_infinite():
    where = np.array([False, True, True])
    value, gradient = jax.value_and_grad(
        lambda z: losses.cross_entropy(z, jnp.array([0, 2]), where=where).sum()
    )(STUDENT)
    assert value == np.inf
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "arguments", [{"where": np.ones(1, bool)}, {"axis": 0}, {"ignore_index": 0}]
)
def test_a_regression_has_no_classes_to_mask(arguments):
    with pytest.raises(
        ValueError, match="expected class indices together with axis, where or ignore_index"
    ):
        losses.supervised(jnp.zeros((4, 1)), jnp.zeros(4), **arguments)


def test_cross_entropy_of_logits_of_minus_infinity():
    # The remaining classes have the probabilities (1/4, 3/4).
    logits = jnp.array([[0.0, jnp.log(3.0), -jnp.inf]])
    value, gradient = jax.value_and_grad(lambda z: losses.cross_entropy(z, jnp.array([1])).sum())(
        logits
    )
    np.testing.assert_allclose(value, np.log(4 / 3), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.25, -0.25, 0.0]], rtol=1e-6)
    assert losses.cross_entropy(logits, jnp.array([2])) == np.inf


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_equals_optax(smoothing):
    student, _, labels = random_logits()
    student = jnp.float32(student)
    targets = optax.losses.smooth_labels(jax.nn.one_hot(labels, 7), smoothing)
    expected = optax.losses.softmax_cross_entropy(student, targets)
    loss = losses.label_smoothing(student, labels, smoothing=smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_label_smoothing_spreads_over_the_classes_that_count():
    logits = jnp.log(jnp.array([[0.2, 0.8, 1.0, 0.0]]))  # The last logit is -inf.
    where = np.array([True, True, False, True])
    expected = -0.9 * np.log(0.2) - 0.1 * np.log([0.2, 0.8]).mean()
    value, gradient = jax.value_and_grad(
        lambda z: losses.label_smoothing(z, jnp.array([0]), where=where).sum()
    )(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, [[0.2 - 0.95, 0.8 - 0.05, 0, 0]], rtol=1e-5, atol=1e-7)


def test_label_smoothing_ignores_and_checks_labels():
    values = losses.label_smoothing(STUDENT, jnp.array([1, -100]), ignore_index=-100)
    assert values[0] > 0
    assert values[1] == 0
    with pytest.raises(ValueError, match="labels: expected class indices from 0 to 2, got 3"):
        losses.label_smoothing(STUDENT, jnp.array([1, 3]))
    with pytest.raises(ValueError, match="smoothing: expected values from 0 to 1, got -"):
        losses.label_smoothing(STUDENT, jnp.array([1, 1]), smoothing=-0.1)
