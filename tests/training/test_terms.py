"""Losses of several terms with their own normalisers, against closed forms in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import schedules
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.state import init_loss
from akd_jax.types import Batch, Term
from tests.support.errors import error_of
from tests.support.logits import cross_entropy, log_softmax
from tests.support.steps import (
    Linear,
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)

RATE = 0.5
TEXT_SCALE = schedules.linear(1.0, 0.25, epochs=3)
TOKEN_SCALE = schedules.warm_up(2.0, steps=4)


def two_terms(student, teachers, batch, clock):
    """The squared mean logits of a text [B], and the cross-entropy of its tokens [B, L]."""
    del teachers
    token_weights = jnp.where(batch.labels >= 0, batch.weights[:, None], 0)
    log_q = jax.nn.log_softmax(student.logits)
    labels = jnp.where(batch.labels >= 0, batch.labels, 0)
    nll = -jnp.take_along_axis(log_q, labels[..., None], axis=-1)[..., 0]
    return {
        "text": Term(
            jnp.square(student.logits.mean(axis=1)).sum(axis=-1), batch.weights, TEXT_SCALE(clock)
        ),
        "token": Term(nll, token_weights, TOKEN_SCALE(clock)),
    }


def in_numpy(kernel, batch, text_scale, token_scale):
    """Means of both terms, and the gradient of the loss with respect to the kernel."""
    x, labels = np.float64(batch.inputs), np.asarray(batch.labels)
    rows = np.float64(batch.weights)
    tokens = rows[:, None] * (labels >= 0)
    known = np.where(labels >= 0, labels, 0)
    logits = x @ kernel
    mean_x, mean_logits = x.mean(axis=1), logits.mean(axis=1)
    text = np.average(np.square(mean_logits).sum(axis=-1), weights=rows)
    token = np.average(cross_entropy(logits, known), weights=tokens)
    text_gradient = mean_x.T @ (2 * mean_logits * rows[:, None]) / rows.sum()
    errors = (np.exp(log_softmax(logits)) - np.eye(3)[known]) * tokens[..., None]
    token_gradient = np.einsum("bld,blc->dc", x, errors) / tokens.sum()
    return text, token, text_scale * text_gradient + token_scale * token_gradient


def make_batches():
    """Two batches of 16 texts; one device has some padding rows, and another one only those."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(2):
        weights = rng.uniform(0.5, 2, size=16)
        weights[9:] = 0
        labels = rng.integers(0, 3, size=(16, 5))
        labels[rng.uniform(size=labels.shape) < 0.4] = -100
        batches.append(
            Batch(
                inputs=np.float32(rng.normal(size=(16, 5, 4))),
                labels=np.int32(labels),
                weights=np.float32(weights),
            )
        )
    return batches


def state_of(loss, batch, **options):
    options = {"optimizer": optax.sgd(RATE), **options}
    return make_state(Linear(), batch.inputs, loss=loss, **options)


def kernel_of(state):
    return np.float64(state.params["student"]["Dense_0"]["kernel"])


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("update", [update_on_one, update_on_four])
def test_two_updates_with_scheduled_scales_equal_the_closed_form(update, parts):
    batches = make_batches()
    state = state_of(two_terms, batches[0], grad_accumulation_steps=parts)
    kernel = kernel_of(state)
    state, metrics = update(state, {}, batches)
    # The scales of the first and of the second epoch, each of one update.
    for batch, result, scales in zip(batches, metrics, [(1.0, 0.0), (0.75, 0.5)], strict=True):
        text, token, gradient = in_numpy(kernel, batch, *scales)
        values = means(result)
        assert values["text"] == pytest.approx(text, rel=1e-5)
        assert values["token"] == pytest.approx(token, rel=1e-5)
        assert (values["text_scale"], values["token_scale"]) == pytest.approx(scales)
        expected = scales[0] * text + scales[1] * token
        assert values["loss"] == pytest.approx(expected, rel=1e-5)
        kernel = kernel - RATE * gradient
    np.testing.assert_allclose(kernel_of(state), kernel, atol=1e-6)


def test_devices_and_parts_change_nothing():
    batches = make_batches()
    state = state_of(two_terms, batches[0], optimizer=optax.sgd(RATE, momentum=0.9))
    in_parts = state.replace(grad_accumulation_steps=2)
    expected, expected_metrics = update_on_one(state, {}, batches)
    for update, start in (
        (update_on_four, state),
        (update_on_one, in_parts),
        (update_on_four, in_parts),
    ):
        actual, metrics = update(start, {}, batches)
        assert_close(arrays(actual), arrays(expected), 1e-6)
        assert_close([means(m) for m in metrics], [means(m) for m in expected_metrics], 1e-6)


def test_rows_of_weight_0_change_nothing():
    batches = make_batches()
    state = state_of(two_terms, batches[0])
    expected, expected_metrics = update_on_one(state, {}, batches)
    others = [
        batch.replace(
            inputs=np.where(batch.weights[:, None, None] > 0, batch.inputs, 1e3),
            labels=np.where(batch.weights[:, None] > 0, batch.labels, 2),
        )
        for batch in batches
    ]
    real = [jax.tree.map(lambda x: x[:9], batch) for batch in batches]
    for changed in (others, real):
        actual, metrics = update_on_one(state, {}, changed)
        assert_close(arrays(actual), arrays(expected), 1e-6)
        assert_close([means(m) for m in metrics], [means(m) for m in expected_metrics], 1e-6)
    actual, _ = update_on_four(state, {}, others)
    assert_close(arrays(actual), arrays(expected), 1e-6)


@pytest.mark.parametrize("parts", [1, 2])
def test_term_without_weight_is_0_and_its_gradient_is_finite(parts):
    batch, _ = make_batches()
    unlabelled = batch.replace(labels=np.full_like(batch.labels, -100))
    # In the second epoch both terms have a scale.
    state = state_of(two_terms, batch, grad_accumulation_steps=parts)
    state = state.replace(step=jnp.int32(1))
    text, _, gradient = in_numpy(kernel_of(state), batch, 0.75, 0.0)
    for update in (update_on_one, update_on_four):
        actual, (metrics,) = update(state, {}, [unlabelled])
        assert metrics["token"].total == metrics["token"].weight == 0
        assert float(metrics["loss"].mean()) == pytest.approx(0.75 * text, rel=1e-5)
        expected = kernel_of(state) - RATE * gradient
        np.testing.assert_allclose(kernel_of(actual), expected, atol=1e-6)


def test_a_batch_without_weight_leaves_the_parameters_unchanged():
    batch, _ = make_batches()
    state = state_of(two_terms, batch)
    empty = batch.replace(weights=np.zeros_like(batch.weights))
    for update in (update_on_one, update_on_four):
        after, (metrics,) = update(state, {}, [empty])
        assert_close(after.params, state.params, 0)
        assert metrics["loss"].weight == 0


def test_weights_get_no_gradient():
    def confident(student, teachers, batch, clock):
        del teachers, clock
        weights = batch.weights * jnp.square(student.logits).sum(axis=(1, 2))
        return {"confident": Term(student.logits.sum(axis=(1, 2)), weights)}

    batch, _ = make_batches()
    state = state_of(confident, batch)
    kernel, x = kernel_of(state), np.float64(batch.inputs)
    weights = batch.weights * np.square(x @ kernel).sum(axis=(1, 2))
    gradient = np.einsum("bld,b->d", x, weights)[:, None] / weights.sum() * np.ones((1, 3))
    state, (metrics,) = update_on_one(state, {}, [batch])
    np.testing.assert_allclose(kernel_of(state), kernel - RATE * gradient, atol=1e-5)
    assert metrics["confident"].weight == pytest.approx(weights.sum(), rel=1e-5)


def test_an_array_is_a_term_with_the_weights_of_the_batch():
    def first_logit(student, teachers, batch, clock):
        del teachers, batch, clock
        return student.logits[:, 0, 0]

    batch, _ = make_batches()
    state = state_of(first_logit, batch)
    kernel = kernel_of(state)
    state, (metrics,) = update_on_one(state, {}, [batch])
    gradient = np.zeros((4, 3))
    gradient[:, 0] = np.average(batch.inputs[:, 0], axis=0, weights=batch.weights)
    np.testing.assert_allclose(kernel_of(state), kernel - RATE * gradient, atol=1e-6)
    # Its only record is the loss. These labels of tokens also give an accuracy.
    assert metrics.keys() == {"loss", "accuracy", "nonfinite"}


def returning(terms):
    """A loss that returns `terms(values, weights)`, with values and weights of shape [16]."""
    return lambda student, teachers, batch, clock: terms(student.logits[:, 0, 0], batch.weights)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (
            lambda v, w: {"a": Term(v, w[:, None])},
            r"loss term 'a': expected weights of the shape \(16,\) of its values, got \(16, 1\); ",
        ),
        (
            lambda v, w: {"a": Term(v[:8], w[:8])},
            r"'a': expected values for the 16 examples, \[16\] or \[16, L\], got shape \(8,\)",
        ),
        (
            lambda v, w: {"a": Term(v.mean(), w.mean())},
            r"'a': expected values for the 16 examples, \[16\] or \[16, L\], got shape \(\)",
        ),
        (
            lambda v, w: {"a": Term(v, w, scale=w)},
            r"'a': expected a scalar as scale, got shape \(16,\); multiply the values by",
        ),
        (lambda v, w: {"a": v}, "'a': expected a Term, got .*Tracer"),
        (lambda v, w: Term(v, w), "expected an array or a mapping of Terms, got a Term; name"),
        (lambda v, w: {}, "loss: expected at least one term, got none; return a Term by its name"),
        (lambda v, w: v.mean(), r"expected one value per example, shape \(16,\), got shape \(\);"),
        *(
            (
                lambda v, w, name=name: {name: Term(v, w)},
                f"expected a name that no other metric has, got the term '{name}'; rename it",
            )
            for name in ("loss", "accuracy", "squared_error", "nonfinite")
        ),
        (
            lambda v, w: {"a": Term(v, w), "a_scale": Term(v, w)},
            "expected a name that no other metric has, got the term 'a_scale'; rename it",
        ),
    ],
)
def test_wrong_terms_are_refused_in_one_line(terms, message):
    batch, _ = make_batches()
    with pytest.raises(ValueError, match=message) as error:
        update_on_one(state_of(returning(terms), batch), {}, [batch])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (lambda s, t, b, c: t["assistant"].logits[:, 0, 0], "assistant"),
        (lambda s, t, b, c: t["teacher"].features["pooled"], "pooled"),
        (lambda s, t, b, c: s.features["group_2"], "group_2"),
    ],
)
def test_unknown_teacher_or_feature_is_named_with_the_known_ones(loss, name):
    batch, _ = make_batches()
    state = state_of(loss, batch)
    teachers = {"teacher": LiveTeacher(Model(state.model.variables, Linear().apply))}
    message = error_of(update_on_one, state, teachers, [batch])
    assert message == (
        f"loss: expected the name of a teacher or of a feature, got '{name}'; use one of the"
        " teachers (teacher) or of the features: the student has scores; teacher has scores"
    )


def test_other_key_errors_of_a_loss_are_not_explained():
    def wrong_index(student, teachers, batch, clock):
        return {}[3]

    batch, _ = make_batches()
    with pytest.raises(KeyError, match="3") as error:
        update_on_one(state_of(wrong_index, batch), {}, [batch])
    assert not isinstance(error.value, InputError)
    assert init_loss(wrong_index, jax.random.key(0), None, {}, batch) == {}
