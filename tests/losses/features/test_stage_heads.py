"""OFA-KD: classifiers on the layers of a student."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.types import UNLABELLED, Batch, Clock, Outputs
from experiments.benchmarks.losses import review
from experiments.benchmarks.losses.modules import initial_parameters, module_loss
from tests.support.loss_checks import check_extreme_logits, check_pytorch, check_transforms

ROWS, CLASSES = 6, 5


def numbers(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def arrays():
    return {
        "student_a": numbers(ROWS, 4, 3, 2),
        "student_b": numbers(ROWS, 7),
        "student_logits": 3 * numbers(ROWS, CLASSES),
        "teacher_logits": 3 * numbers(ROWS, CLASSES, seed=1),
        "labels": np.int32([4, 0, 1, 1, 3, 2]),
    }


@pytest.mark.parametrize("exponent", [1.0, 1.5])
def test_ofa_equals_pytorch(exponent):
    module, inputs = losses.OFA(("a", "b"), exponent=exponent), arrays()
    inputs["student_parameters"] = initial_parameters(module, inputs)
    reference = functools.partial(review.stage_heads, exponent=exponent)
    check_pytorch(module_loss(module), reference, inputs)
    check_transforms(module_loss(module), inputs)


def arguments_of(features, mask=None):
    """The arguments of a loss, in which the second example has no label."""
    inputs = arrays()
    labels = np.where(np.arange(ROWS) == 1, UNLABELLED, inputs["labels"])
    batch = Batch(np.zeros(ROWS), labels, np.float32([1, 1, 0, 2, 1, 1]))
    student = Outputs(inputs["student_logits"], features, mask=mask)
    return student, {"teacher": Outputs(inputs["teacher_logits"])}, batch, Clock.at()


def test_each_layer_and_the_logits_have_a_term_with_the_weights_of_labels():
    arguments = arguments_of({"a": numbers(ROWS, 3), "b": numbers(ROWS, 2)})
    module = losses.OFA((("a", "unread"), "b"))
    variables = module.init(jax.random.key(0), *arguments)
    assert variables["params"].keys() == {"head_a", "head_b"}
    terms = module.apply(variables, *arguments)
    assert terms.keys() == {"a", "b", "logits"}
    for term in terms.values():
        assert term.values.shape == (ROWS,)
        assert term.scale == 1
        np.testing.assert_array_equal(term.weights, [1, 0, 0, 2, 1, 1])
    without_final = losses.OFA(("a", "b"), final_logits=False).apply(variables, *arguments)
    assert without_final.keys() == {"a", "b"}


def test_the_mean_runs_over_the_tokens_of_a_text():
    tokens, lengths = numbers(ROWS, 4, 3), np.array([4, 2, 1, 3, 4, 0])
    mask = np.arange(4) < lengths[:, None]
    means = tokens.sum(axis=1, where=mask[..., None]) / np.maximum(lengths, 1)[:, None]
    module = losses.OFA(("a",))
    arguments = arguments_of({"a": tokens}, jnp.asarray(mask))
    expected = arguments_of({"a": np.float32(means)})
    variables = module.init(jax.random.key(0), *arguments)
    np.testing.assert_allclose(
        module.apply(variables, *arguments)["a"].values,
        module.apply(variables, *expected)["a"].values,
        rtol=1e-5,
    )


def test_the_loss_is_finite_at_extreme_logits():
    feature = numbers(4, 3)

    def loss(student_logits, teacher_logits, labels):
        rows = len(student_logits)
        inputs = {"student_logits": student_logits, "teacher_logits": teacher_logits}
        inputs |= {"student_a": feature[:rows], "labels": labels}
        module = losses.OFA(("a",))
        parameters = {"head_a": {"kernel": jnp.ones((3, teacher_logits.shape[-1]))}}
        parameters["head_a"]["bias"] = jnp.zeros(teacher_logits.shape[-1])
        return module_loss(module)(student_parameters=parameters, **inputs)

    check_extreme_logits(loss, labels=np.int32([0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (losses.OFA(()), "OFA: expected at least one layer, got none; set layers"),
        (losses.OFA(("a",)), r"OFA: expected maps .* got shape .6, 2, 2, 2, 2.; choose other"),
        (losses.OFA(("b",), exponent=0.0), "exponent: expected .* got 0"),
    ],
)
def test_bad_layers_and_options_are_refused(module, message):
    arguments = arguments_of({"a": numbers(ROWS, 2, 2, 2, 2), "b": numbers(ROWS, 2)})
    with pytest.raises(ValueError, match=message):
        module.init(jax.random.key(0), *arguments)
