"""Losses in chunks of rows against the same losses of all rows, and the mean over tokens."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.types import Batch, Clock, Head, Outputs, Tokens, TopK
from experiments.benchmarks import vocabulary
from experiments.benchmarks.losses import tokens as pytorch
from tests.support.logits import random_logits
from tests.support.loss_checks import (
    check_extreme_logits,
    check_pytorch,
    check_transforms,
    value_and_gradients,
)

ROWS = (2, 5)  # Ten rows, which 4 chunks do not divide.
STUDENT, TEACHER, LABELS = random_logits((*ROWS, 6))
LOGITS = {"student_logits": np.float32(STUDENT), "teacher_logits": np.float32(TEACHER)}
TEMPERATURES = np.linspace(1, 3, 10, dtype=np.float32).reshape(ROWS)
WHERE = np.random.default_rng(1).random((*ROWS, 6)) < 0.7
FUNCTIONS = {
    "kl": (losses.kl, LOGITS | {"temperature": TEMPERATURES}, {}),
    "kl where": (losses.kl, LOGITS | {"where": WHERE}, {"temperature": 2.0}),
    "kl of some classes": (
        losses.kl,
        LOGITS | {"where": np.arange(6) < 4},
        {"temperature": 2.0, "axis": 2},
    ),
    "annealed_mse": (losses.annealed_mse, LOGITS, {"factor": 0.5, "class_reduction": "sum"}),
    "cross_entropy": (
        losses.cross_entropy,
        {
            "student_logits": LOGITS["student_logits"],
            "labels": np.where(LABELS == 2, -100, LABELS),
        },
        {"ignore_index": -100},
    ),
    "continuation": (
        losses.continuation,
        LOGITS | {"labels": LABELS, "psi": np.float32(LABELS > 2)},
        {"factor": 0.5, "margin": 0.1},
    ),
}


def assert_same(actual, expected, rtol=1e-5):
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        largest = np.abs(np.float32(y)).max()
        np.testing.assert_allclose(np.float32(x), np.float32(y), rtol=rtol, atol=rtol * largest)


@pytest.mark.parametrize(
    ("name", "chunks"), [*((name, 4) for name in FUNCTIONS), *(("kl", n) for n in (1, 5, 99))]
)
def test_chunks_change_neither_values_nor_gradients(name, chunks):
    loss, arrays, options = FUNCTIONS[name]
    weights = np.linspace(0, 1, 10, dtype=np.float32).reshape(ROWS)
    results = [
        value_and_gradients(functools.partial(f, **options), arrays, weights)
        for f in (losses.chunked(loss, chunks=chunks), loss)
    ]
    assert_same(*results)


def test_chunks_of_bfloat16_logits_have_a_bfloat16_gradient():
    arrays = {name: x.astype(jnp.bfloat16) for name, x in LOGITS.items()}
    results = [
        value_and_gradients(functools.partial(f, temperature=2.0), arrays)
        for f in (losses.chunked(losses.kl), losses.kl)
    ]
    assert results[0][1]["student_logits"].dtype == jnp.bfloat16
    assert_same(*results)


def test_chunks_of_stored_logits_and_of_a_traced_option_have_the_same_gradients():
    top = TopK.of(jnp.float32(TEACHER), 3)

    def gradients(loss):
        def mean(student, temperature):
            return loss(student, top, temperature=temperature, tail="renormalise").mean()

        return jax.jit(jax.grad(mean, (0, 1)))(jnp.float32(STUDENT), jnp.float32(2))

    assert_same(gradients(losses.chunked(losses.top_k_kl, chunks=4)), gradients(losses.top_k_kl))


def test_chunked_kl_equals_pytorch_and_is_finite_at_extremes():
    loss = functools.partial(losses.chunked(losses.kl, chunks=3), temperature=2.0)
    arrays = {name: x.reshape(10, 6) for name, x in LOGITS.items()}
    check_pytorch(loss, functools.partial(pytorch.chunked_kl, temperature=2.0), arrays)
    check_transforms(loss, arrays)
    skip = {"opposite logits of 80", "equal logits", "constant logits", "one row", "one class"}
    check_extreme_logits(loss, skip={*skip, "bfloat16"})


def linear_inputs(dtype=np.float32, teacher_classes=6):
    """Hidden states [2, 5, D] and last layers of student (D = 3) and teacher (D = 4)."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    return {
        "student_features": normal(*ROWS, 3),
        "student_head": Head(normal(3, 6), normal(6)),
        "teacher_features": normal(*ROWS, 4),
        "teacher_head": Head(normal(4, teacher_classes), normal(teacher_classes)),
    }


def linear_kl(student_features, student_head, teacher_features, teacher_head):
    """The KL divergence of all logits at once."""
    student, teacher = (
        jnp.einsum("bld,dc->blc", *(jnp.float32(x) for x in (features, head.kernel)))
        + jnp.float32(head.bias)
        for features, head in ((student_features, student_head), (teacher_features, teacher_head))
    )
    return losses.kl(student, teacher, 2.0)


def gradients_of_parts(loss, arrays):
    def mean(arrays):
        values = loss(**arrays)
        return values.mean(), values

    return jax.jit(jax.grad(mean, has_aux=True))(arrays)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_logits_computed_in_chunks_change_neither_values_nor_gradients(dtype):
    arrays = linear_inputs(dtype)
    loss = functools.partial(losses.linear_chunked(losses.kl, chunks=4), temperature=2.0)
    gradients, values = gradients_of_parts(loss, arrays)
    expected, expected_values = gradients_of_parts(linear_kl, arrays)
    assert_same(values, expected_values)
    # A gradient of a kernel in bfloat16 is rounded once, after the sum over the chunks.
    assert_same(gradients, expected, rtol=1e-5 if dtype == np.float32 else 1e-2)
    for part in ("teacher_features", "teacher_head"):
        assert not any(np.any(x) for x in jax.tree.leaves(gradients[part]))


def test_losses_of_one_model_read_no_teacher():
    arrays = linear_inputs()
    features, head = arrays["student_features"], arrays["student_head"]
    top = TopK.of(jnp.float32(TEACHER), 3)

    @jax.jit
    def evaluate():
        logits = features @ head.kernel + head.bias
        linear_ce = losses.linear_chunked(losses.cross_entropy)(features, head, LABELS)
        linear_kl = losses.linear_chunked(losses.top_k_kl)(features, head, top)
        return (linear_ce, linear_kl), (
            losses.cross_entropy(logits, LABELS),
            losses.top_k_kl(logits, top),
        )

    assert_same(*evaluate())


def test_chunks_save_half_of_the_memory():
    ratios = vocabulary.measure(1)["ratios"]
    assert list(ratios) == ["logits: whole / chunks", "hidden states: whole / chunks"]
    assert min(ratios.values()) >= 2, ratios


def test_losses_in_chunks_are_bound_and_composed_by_their_parameters():
    arrays = linear_inputs()
    student, teacher = (
        Outputs(
            arrays[f"{side}_features"] @ arrays[f"{side}_head"].kernel
            + arrays[f"{side}_head"].bias,
            {"hidden": arrays[f"{side}_features"]},
            head=arrays[f"{side}_head"],
        )
        for side in ("student", "teacher")
    )
    inputs = Tokens(np.ones(ROWS, np.int32), np.zeros(ROWS, np.int32), np.int32([3, 5]))
    batch = Batch(inputs, np.where(LABELS == 2, -100, LABELS), np.float32([1, 2]))
    parts = {
        "whole": losses.bind(losses.kl, temperature=2.0),
        "chunks": losses.bind(losses.chunked(losses.kl), temperature=2.0),
        "linear": losses.bind(losses.linear_chunked(losses.kl), layers="hidden", temperature=2.0),
        "ce": losses.cross_entropy,
        "ce_chunks": losses.chunked(losses.cross_entropy),
    }
    loss = losses.compose(**{name: (1.0, part) for name, part in parts.items()})
    terms = jax.jit(loss)(
        student.replace(mask=inputs.mask), {"teacher": teacher}, batch, Clock.at()
    )
    for name, reference in (("chunks", "whole"), ("linear", "whole"), ("ce_chunks", "ce")):
        np.testing.assert_allclose(terms[name].values, terms[reference].values, rtol=1e-5)
        np.testing.assert_array_equal(terms[name].weights, terms[reference].weights)
    np.testing.assert_array_equal(terms["linear"].weights, [[1, 1, 1, 0, 0], [2] * 5])
    np.testing.assert_array_equal(terms["ce_chunks"].weights[batch.labels == -100], 0)
    assert inspect.signature(losses.chunked(losses.kl)) == inspect.signature(losses.kl)


def test_masked_mean_by_hand():
    mask = np.array([[True, False], [True, False]])
    values = jnp.float32([[1, np.inf], [4, 7]])
    assert losses.masked_mean(values, mask) == 2.5
    gradient = jax.grad(losses.masked_mean)(values, mask)
    np.testing.assert_array_equal(gradient, [[0.5, 0], [0.5, 0]])


def test_masked_tokens_give_no_loss_and_finite_gradients():
    def mean(logits, labels):
        values = losses.chunked(losses.cross_entropy)(logits, labels, ignore_index=-100)
        return losses.masked_mean(values, labels != -100)

    labels = np.full(ROWS, -100)
    value, gradient = jax.jit(jax.value_and_grad(mean))(jnp.float32(STUDENT), labels)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_masked_mean_over_devices_is_that_of_one_device():
    values = np.float32(STUDENT[..., 0]).reshape(2, 5)[:, :4].reshape(4, 2)
    mask = np.array([[True, True], [True, False], [False, False], [True, True]])
    expected, wanted = jax.value_and_grad(losses.masked_mean)(values, mask)

    def share(values, mask):
        return jax.value_and_grad(
            functools.partial(losses.masked_mean, mask=mask, axis_name="devices")
        )(values)

    means, gradients = jax.pmap(share, "devices")(values, mask)
    np.testing.assert_allclose(means, [expected] * 4, rtol=1e-6)
    # A mean over the devices of the gradients of parameters adds what the rows contribute.
    np.testing.assert_allclose(gradients / 4, wanted, rtol=1e-6)


def relational(student_logits, axis_name=None):
    return student_logits[..., 0]


def first_row(student_logits):
    return student_logits[:1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.chunked(losses.kl, chunks=0), "chunks: expected at least 1, got 0"),
        (
            lambda: losses.chunked(losses.sp),
            "chunked: expected a loss of student_logits, got sp of student_features, .*; give a",
        ),
        (
            lambda: losses.linear_chunked(relational),
            "linear_chunked: expected a loss of single rows, got relational, which combines",
        ),
        (
            lambda: losses.chunked(losses.kl)(**LOGITS, temperature=np.ones(5)),
            r"temperature: expected a scalar, or .* each of the rows \(2, 5\), got shape \(5,\);",
        ),
        (
            lambda: losses.chunked(losses.kl)(**LOGITS, temperature=1.0, axis=0),
            "axis: expected the classes on the last axis, -1, got 0",
        ),
        (
            lambda: losses.chunked(losses.kl)(**LOGITS, temperature=1.0, where=WHERE[:, :3]),
            r"where: expected a shape that broadcasts to \(2, 5, 6\), got \(2, 3, 6\)",
        ),
        (
            lambda: losses.chunked(first_row, chunks=2)(LOGITS["student_logits"]),
            r"loss: expected one value per row, shape \(5,\) in a chunk, got \(1,\)",
        ),
        (
            lambda: losses.linear_chunked(losses.kl)(
                **linear_inputs(teacher_classes=7), temperature=1.0
            ),
            "teacher_head: expected the student's 6 classes, got 7; cut the larger head to",
        ),
        (
            lambda: losses.linear_chunked(losses.kl)(
                **linear_inputs() | {"student_head": None}, temperature=1.0
            ),
            "student_head: expected the last layer of a model, got None; use a model in the step",
        ),
        (
            lambda: losses.linear_chunked(losses.kl)(
                **linear_inputs() | {"student_features": jnp.ones((2, 5, 4))}, temperature=1.0
            ),
            r"student_head: expected a kernel \[4, C\] .* got shapes \(3, 6\) and \(6,\); choose",
        ),
        (
            lambda: losses.masked_mean(np.ones((2, 3)), np.ones((2, 1), bool)),
            r"mask: expected the values' shape \(2, 3\), got \(2, 1\)",
        ),
        (
            lambda: losses.masked_mean(np.ones(2), np.ones(2)),
            "mask: expected a boolean mask, got float32",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)
