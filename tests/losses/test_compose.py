"""`bind` and `compose` against values by hand, evaluated as the training step evaluates a loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses, schedules
from akd_jax.models.network import Model
from akd_jax.training.state import init_loss
from akd_jax.training.terms import evaluate_loss
from akd_jax.types import UNLABELLED, Batch, Clock, Outputs, Term, Tokens
from tests.support.logits import LABELS, STUDENT, TEACHER, cross_entropy, kl

BATCH = Batch(np.zeros((2, 1)), np.int32(LABELS), np.float32([1, 3]))
OUTPUTS = Outputs(STUDENT, {"pooled": STUDENT + 10, "group_1": STUDENT + 20})
TEACHERS = {
    "teacher": Outputs(TEACHER, {"pooled": TEACHER + 10, "group_2": TEACHER + 20}),
    "assistant": Outputs(-TEACHER, {"pooled": TEACHER + 30}),
}


def terms_of(loss, batch=BATCH, *, student=OUTPUTS, clock=None, variables=None, axis_name=None):
    """The terms of a loss by name."""
    clock = Clock.at() if clock is None else clock
    terms, _ = evaluate_loss(
        loss,
        variables or {},
        student,
        TEACHERS,
        batch,
        clock,
        key=jax.random.key(0),
        axis_name=axis_name,
    )
    return terms


def only(terms):
    """The only term of a loss, which has no name."""
    ((name, term),) = terms.items()
    assert name == ""
    return term


@pytest.mark.parametrize(
    ("options", "teacher", "student_features", "teacher_features"),
    [
        ({}, "teacher", STUDENT + 10, TEACHER + 10),
        ({"teacher": "assistant"}, "assistant", STUDENT + 10, TEACHER + 30),
        ({"layers": ("group_1", "group_2")}, "teacher", STUDENT + 20, TEACHER + 20),
        ({"layers": ("group_1", "pooled")}, "teacher", STUDENT + 20, TEACHER + 10),
    ],
)
def test_names_of_parameters_say_what_a_function_reads(
    options, teacher, student_features, teacher_features
):
    seen = {}

    def function(labels, teacher_features, student_features, teacher_logits, student_logits, p=7):
        seen.update(labels=labels, logits=(student_logits, teacher_logits), p=p)
        seen.update(features=(student_features, teacher_features))
        return student_logits[:, 0]

    term = only(terms_of(losses.bind(function, **options)))
    np.testing.assert_array_equal(term.values, STUDENT[:, 0])
    np.testing.assert_array_equal(seen["labels"], LABELS)
    np.testing.assert_array_equal(seen["logits"], (STUDENT, TEACHERS[teacher].logits))
    np.testing.assert_array_equal(seen["features"], (student_features, teacher_features))
    assert seen["p"] == 7


def test_functions_may_read_the_weights_of_examples_and_the_mask_of_tokens():
    seen = {}

    def function(student_logits, weights, mask):
        seen.update(weights=weights, mask=mask)
        return student_logits[:, 0]

    terms_of(losses.bind(function))
    np.testing.assert_array_equal(seen["weights"], [1, 3])
    assert seen["mask"] is None
    batch, student = make_tokens()
    term = only(
        terms_of(
            losses.bind(
                lambda student_logits, weights, mask: function(student_logits[:, 0], weights, mask)
            ),
            batch,
            student=student,
        )
    )
    np.testing.assert_array_equal(seen["mask"], [[1, 1, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_array_equal(term.weights, [1, 3])


def test_options_may_be_schedules():
    temperature = schedules.linear(4.0, 1.0, epochs=3)
    loss = losses.bind(losses.kl, temperature=temperature)
    for epoch, value in ((0, 4.0), (1, 3.0), (3, 1.0)):
        term = only(terms_of(loss, clock=Clock.at(epoch=epoch)))
        expected = kl(np.float64(STUDENT), np.float64(TEACHER), value)
        np.testing.assert_allclose(term.values, expected, rtol=1e-5)
        np.testing.assert_array_equal(term.weights, [1, 3])
        assert term.scale == 1


def test_annealing_kd_is_annealed_mse_with_the_scheduled_factor():
    loss = losses.bind(losses.annealed_mse, factor=schedules.annealing_factor(4))
    for k, phi in enumerate((0.25, 0.5, 0.75, 1.0)):
        term = only(terms_of(loss, clock=Clock.at(temperature_step=k)))
        expected = np.square(STUDENT - phi * TEACHER).mean(axis=-1)
        np.testing.assert_allclose(term.values, expected, rtol=1e-6)


def test_unlabelled_examples_have_no_weight_in_a_function_of_labels():
    batch = BATCH.replace(labels=np.int32([UNLABELLED, 2]))
    term = only(terms_of(losses.bind(losses.cross_entropy), batch))
    np.testing.assert_array_equal(term.weights, [0, 3])
    assert term.values[1] == losses.cross_entropy(STUDENT, LABELS)[1]
    assert np.isfinite(term.values[0])
    # A function that reads no labels uses all examples.
    term = only(terms_of(losses.bind(losses.annealed_mse), batch))
    np.testing.assert_array_equal(term.weights, [1, 3])


def test_examples_without_a_target_number_have_no_weight():
    batch = BATCH.replace(labels=np.float32([2.0, np.nan]))
    student = Outputs(jnp.array([[5.0], [7.0]]))
    with jax.debug_nans(False):
        term = only(terms_of(losses.bind(losses.supervised), batch, student=student))
    np.testing.assert_array_equal(term.weights, [1, 0])
    assert term.values[0] == 9
    assert np.isfinite(term.values[1])


def make_tokens():
    """Two texts of two and three tokens, with logits and a label for every token."""
    rng = np.random.default_rng(0)
    ids = np.ones((2, 4), np.int32)
    labels = np.int32([[1, UNLABELLED, 0, 0], [2, 0, UNLABELLED, 1]])
    batch = Batch(Tokens(ids, ids, np.int32([2, 3])), labels, np.float32([1, 3]))
    logits = jnp.float32(rng.normal(size=(2, 4, 3)))
    return batch, Outputs(logits, mask=batch.inputs.mask)


def test_values_of_tokens_have_no_weight_at_padding_or_without_a_label():
    batch, student = make_tokens()
    term = only(terms_of(losses.bind(losses.cross_entropy), batch, student=student))
    np.testing.assert_array_equal(term.weights, [[1, 0, 0, 0], [3, 3, 0, 0]])
    logits, labels = np.float64(student.logits), np.maximum(batch.labels, 0)
    np.testing.assert_allclose(term.values, cross_entropy(logits, labels), rtol=1e-5)

    def norm(student_logits):
        return jnp.square(student_logits).sum(axis=-1)

    term = only(terms_of(losses.bind(norm), batch, student=student))
    np.testing.assert_array_equal(term.weights, [[1, 1, 0, 0], [3, 3, 3, 0]])


def test_values_of_texts_have_the_weights_of_the_examples():
    batch, student = make_tokens()

    def first(student_logits):
        return student_logits[:, 0, 0]

    term = only(terms_of(losses.bind(first), batch, student=student))
    np.testing.assert_array_equal(term.weights, [1, 3])


def centred(student_logits, axis_name):
    """The first logits minus their mean over the examples of all devices."""
    first = student_logits[:, 0]
    total = first.mean() if axis_name is None else jax.lax.pmean(first.mean(), axis_name)
    return first - total


def test_a_function_of_all_rows_receives_the_axis_of_the_devices():
    logits = jnp.arange(12.0).reshape(4, 3)
    batch = Batch(np.zeros((4, 1)), np.zeros(4, np.int32), np.ones(4, np.float32))
    bound = losses.bind(centred)
    for loss in (bound, losses.compose(centred=(1.0, bound))):

        def values(logits, batch, axis_name=None, loss=loss):
            terms = terms_of(loss, batch, student=Outputs(logits), axis_name=axis_name)
            return next(iter(terms.values())).values

        np.testing.assert_array_equal(values(logits, batch), [-4.5, -1.5, 1.5, 4.5])
        shares = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (logits, batch))
        on_two = jax.vmap(lambda *share: values(*share, axis_name="device"), axis_name="device")
        np.testing.assert_array_equal(on_two(*shares), [[-4.5, -1.5], [1.5, 4.5]])


def test_bind_needs_a_value_for_every_parameter_and_knows_its_options():
    with pytest.raises(ValueError, match=r"^continuation: expected a value for 'factor', which"):
        losses.bind(losses.continuation, psi=0.5, margin=1.0)
    with pytest.raises(ValueError, match=r"expected no option 'factor', .* parameters are student"):
        losses.bind(losses.kl, temperature=2.0, factor=1.0)
    with pytest.raises(ValueError, match=r"^continuation: expected a value for 'factor'"):
        losses.compose(annealed=(1.0, losses.continuation))


def test_compose_scales_and_names_its_terms():
    def confidence(student, teachers, batch, clock):
        return student.logits.max(axis=-1)

    loss = losses.compose(
        ce=(0.25, losses.cross_entropy),
        kd=(schedules.linear(1.0, 0.0, epochs=2), losses.bind(losses.kl, temperature=2.0)),
        confidence=(lambda clock: 2 * clock.step, confidence),
    )
    terms = terms_of(loss, clock=Clock.at(epoch=1, step=3))
    assert list(terms) == ["ce", "kd", "confidence"]
    assert [float(term.scale) for term in terms.values()] == [0.25, 0.5, 6]
    expected = [
        cross_entropy(np.float64(STUDENT), np.asarray(LABELS)),
        kl(np.float64(STUDENT), np.float64(TEACHER), 2.0),
        [2, 3],
    ]
    for term, values in zip(terms.values(), expected, strict=True):
        np.testing.assert_allclose(term.values, values, rtol=1e-5)
        np.testing.assert_array_equal(term.weights, BATCH.weights)


def test_scales_and_names_of_nested_losses_are_combined():
    def parts(student, teachers, batch, clock):
        values = student.logits[:, 0]
        return {"a": Term(values, batch.weights, 3.0), "b": Term(values, 2 * batch.weights)}

    inner = losses.compose(ce=(0.5, losses.cross_entropy), two=(0.25, parts))
    terms = terms_of(losses.compose(all=(10.0, inner), same=(1.0, parts)))
    assert {name: float(term.scale) for name, term in terms.items()} == {
        "all_ce": 5,
        "all_two_a": 7.5,
        "all_two_b": 2.5,
        "same_a": 3,
        "same_b": 1,
    }
    np.testing.assert_array_equal(terms["all_two_b"].weights, [2, 6])


def test_terms_of_a_composition_need_different_names():
    def parts(student, teachers, batch, clock):
        values = student.logits[:, 0]
        return {"a": Term(values, batch.weights), "b": Term(values, batch.weights)}

    loss = losses.compose(x=(1.0, parts), x_b=(1.0, losses.cross_entropy))
    with pytest.raises(ValueError, match="terms with different names, got 'x_b' twice; rename"):
        terms_of(loss)


@pytest.mark.parametrize("combine", [losses.compose, losses.balance])
def test_an_error_of_a_loss_starts_with_the_name_of_its_term(combine):
    hint = losses.bind(losses.feature_mse, layers=("pooled", "pooled"))
    other = Outputs(STUDENT, {"pooled": STUDENT[:, :1]})
    loss = combine(ce=(1.0, losses.cross_entropy), hint=(1.0, hint))
    with pytest.raises(ValueError, match=r"^hint: "):
        terms_of(loss, student=other)


class Scaled(nn.Module):
    """The first logits times a learned number, which starts as 2."""

    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        factor = self.param("factor", nn.initializers.constant(2.0), ())
        return factor * student.logits[:, 0]


def test_composition_owns_the_variables_of_its_modules():
    loss = losses.compose(
        hard=(1.0, losses.cross_entropy),
        one=(0.5, Scaled()),
        inner=(1.0, losses.compose(two=(1.0, Scaled()))),
    )
    student = Model({}, lambda variables, inputs, train: OUTPUTS)
    teachers = {name: lambda batch, name=name: TEACHERS[name] for name in TEACHERS}
    variables = init_loss(loss, jax.random.key(0), student, teachers, BATCH)
    assert jax.tree.leaves(variables) == [2, 2]
    changed = jax.tree.map(lambda x: x + 1, variables)
    terms = terms_of(loss, variables=changed)
    np.testing.assert_array_equal(terms["one"].values, 3 * STUDENT[:, 0])
    np.testing.assert_array_equal(terms["inner"].values, 3 * STUDENT[:, 0])
    # Each module has a factor of its own.
    gradient = jax.grad(lambda v: terms_of(loss, variables=v)["one"].values.sum())(variables)
    assert sorted(jax.tree.leaves(gradient)) == [0, STUDENT[:, 0].sum()]


def test_equal_compositions_share_a_compiled_program():
    weight, hard = schedules.constant(0.5), losses.bind(losses.cross_entropy)
    traces = 0

    def values(loss):
        nonlocal traces
        traces += 1
        return terms_of(loss)["hard"].values

    compiled = jax.jit(values, static_argnums=0)
    for _ in range(2):
        compiled(losses.compose(hard=(weight, hard)))
    assert traces == 1


def test_composition_needs_a_term():
    with pytest.raises(ValueError, match="compose: expected at least one term, got none; give"):
        losses.compose()
