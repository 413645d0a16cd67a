"""Compares the losses of transformers with PyTorch and closed forms, and trains a small encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses, models
from akd_jax.data.text import tokenise
from akd_jax.models import huggingface
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.state import TrainState, init_loss
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Clock, Outputs, Task
from experiments.benchmarks.losses import hidden as reference
from experiments.benchmarks.losses.modules import module_loss
from tests.support.encoders import MINILM, random_tokens, start
from tests.support.loss_checks import (
    check_devices,
    check_finite,
    check_pytorch,
    check_transforms,
    value_and_gradients,
)
from tests.support.steps import arrays as arrays_of
from tests.support.steps import assert_close, update_on_four, update_on_one

LENGTHS = np.int32([5, 2, 1, 4])
MASK = np.arange(5) < LENGTHS[:, None]
EIGHT = {"relation_heads": 8}
NAMES = ("student_features", "teacher_features")


def random(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def pair(*shape, teacher=None, **arrays):
    """Returns features of these shapes for student and teacher, and other arrays."""
    features = {"student_features": random(*shape)}
    return {**features, "teacher_features": random(*(teacher or shape), seed=1), **arrays}


def scores(**arrays):
    return pair(4, 2, 5, 5, **arrays)


# A loss and its inputs; all have 4 rows.
CASES = {
    "attention_mse": (losses.attention_mse, reference.attention_mse, scores(mask=MASK)),
    "attention_kl": (losses.attention_kl, reference.attention_kl, scores(mask=MASK)),
    "relation_kl": (
        functools.partial(losses.relation_kl, **EIGHT),
        functools.partial(reference.relation_kl, **EIGHT),
        pair(4, 5, 2, 12, teacher=(4, 5, 4, 12), mask=MASK),
    ),
    "cosine": (losses.cosine, reference.cosine, pair(4, 5, 6)),
    "cosine of vectors": (losses.cosine, reference.cosine, pair(4, 6)),
    "pkd": (losses.pkd, reference.pkd, pair(4, 5, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_pytorch(name):
    check_pytorch(*CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_transformations_do_not_change_the_values(name):
    loss, _, arrays = CASES[name]
    check_transforms(loss, arrays)


@pytest.mark.parametrize("name", ["attention_kl", "relation_kl", "cosine of vectors", "pkd"])
def test_four_devices_equal_one(name):
    loss, _, arrays = CASES[name]
    check_devices(loss, arrays)


@pytest.mark.parametrize("name", CASES)
def test_equal_features_give_0(name):
    loss, _, arrays = CASES[name]
    equal = {**arrays, "teacher_features": arrays["student_features"]}
    values, gradients = value_and_gradients(loss, equal)
    np.testing.assert_allclose(values, 0, atol=1e-13)
    np.testing.assert_allclose(gradients["student_features"], 0, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_extreme_features_give_finite_values_and_gradients(name):
    loss, _, arrays = CASES[name]
    student, teacher = (arrays[name] for name in NAMES)
    extreme = {name: np.concatenate([x] * 3) for name, x in arrays.items()}
    extreme["student_features"] = np.concatenate([80 * np.sign(student), 0 * student, student])
    extreme["teacher_features"] = np.concatenate([-80 * np.sign(teacher), teacher, 0 * teacher])
    half = {name: arrays[name].astype(jnp.bfloat16) for name in NAMES}
    for inputs in (extreme, {**arrays, **half}):
        assert (check_finite(loss, inputs) >= 0).all()


@pytest.mark.parametrize("name", ["attention_mse", "attention_kl", "relation_kl"])
def test_padding_changes_nothing(name):
    loss, _, arrays = CASES[name]
    arrays = {**arrays, "mask": MASK & (LENGTHS != 1)[:, None]}  # A text without a token.
    expected, wanted = value_and_gradients(loss, arrays)
    assert expected[2] == 0
    assert expected[[0, 1, 3]].min() > 0

    axes = {"mask": [1]} | {x: [1] if name == "relation_kl" else [2, 3] for x in NAMES}

    def pad(array, key, value):
        widths = [(0, 2 if axis in axes[key] else 0) for axis in range(array.ndim)]
        return np.pad(array, widths, constant_values=value)

    # Some encoders set the scores of padding to minus infinity.
    padding = 100 if name == "relation_kl" else -np.inf
    longer = {
        key: pad(array, key, False if key == "mask" else padding) for key, array in arrays.items()
    }
    values, gradients = value_and_gradients(loss, longer)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    gradient, wanted = gradients["student_features"], wanted["student_features"]
    np.testing.assert_allclose(gradient, pad(wanted, "student_features", 0), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(gradient[2], 0)


def test_attention_ignores_constants_in_a_row_and_relations_ignore_rotations():
    arrays = scores()
    attention_kl = jax.jit(losses.attention_kl)
    expected = attention_kl(**arrays)
    shifted = arrays["student_features"] + 10 * random(4, 2, 5, 1)
    actual = attention_kl(shifted, arrays["teacher_features"])
    np.testing.assert_allclose(actual, expected, rtol=1e-4)

    values = pair(4, 5, 2, 6)
    relation_kl = jax.jit(losses.relation_kl, static_argnames="relation_heads")
    expected = relation_kl(**values)
    rotation, _ = np.linalg.qr(random(6, 6))
    rotated = values["student_features"] @ rotation
    actual = relation_kl(rotated, values["teacher_features"])
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    np.testing.assert_allclose(relation_kl(**values, relation_heads=2), expected, rtol=1e-6)
    # Tokens are one head.
    tokens = {name: x.reshape(4, 5, 12) for name, x in values.items()}
    expected = relation_kl(**values, relation_heads=1)
    np.testing.assert_allclose(relation_kl(**tokens), expected, rtol=1e-6)


def test_cosine_and_pkd_of_zero_vectors_are_defined():
    vectors, zeros = random(3, 4), np.zeros((3, 4), np.float32)
    student = np.concatenate([zeros, vectors, zeros])
    teacher = np.concatenate([vectors, zeros, zeros])
    arrays = {"student_features": student, "teacher_features": teacher}
    values, gradients = value_and_gradients(losses.cosine, arrays)
    np.testing.assert_array_equal(values, 1)
    np.testing.assert_array_equal(gradients["student_features"], 0)
    cosine, pkd = jax.jit(losses.cosine), jax.jit(losses.pkd)
    np.testing.assert_allclose(pkd(zeros, vectors), 1, rtol=1e-6)
    np.testing.assert_allclose(pkd(-vectors, vectors), 4, rtol=1e-6)
    np.testing.assert_allclose(cosine(-3 * vectors, vectors), 2, rtol=1e-6)
    first = pair(3, 4)
    np.testing.assert_allclose(pkd(**first), 2 * cosine(**first), rtol=1e-6)
    # A small angle keeps its digits.
    teacher = np.float32([[1, 0, 0, 0]] * 3)
    near = teacher + np.float32([0, 1e-4, 0, 0])
    np.testing.assert_allclose(cosine(near, teacher), 0.5e-8, rtol=1e-3)


@pytest.mark.parametrize(
    ("layers", "strategy", "teachers"),
    [
        ((4, 12), "uniform", (3, 6, 9, 12)),
        ((3, 4), "uniform", (1, 3, 4)),  # 4/3 and 8/3 are rounded.
        ((2, 3), "uniform", (2, 3)),
        ((4, 12), "top", (9, 10, 11, 12)),
        ((4, 12), "bottom", (1, 2, 3, 4)),
        ((6, 12), "pkd_skip", (2, 4, 6, 8, 10)),
        ((3, 12), "pkd_skip", (4, 8)),
        ((6, 12), "pkd_last", (7, 8, 9, 10, 11)),
        ((3, 12), "pkd_last", (10, 11)),
        ((12, 12), "uniform", tuple(range(1, 13))),
    ],
)
def test_layer_map_gives_the_published_layers(layers, strategy, teachers):
    assert losses.layer_map(*layers, strategy) == tuple(enumerate(teachers, start=1))


BAD_INPUTS = {
    "no layer": (lambda: losses.layer_map(0, 3), "student_layers: expected 1 to 3, .* got 0"),
    "a smaller teacher": (lambda: losses.layer_map(4, 3), "student_layers: .* got 4"),
    "strategy": (lambda: losses.layer_map(2, 4, "middle"), "expected one of uniform, .* 'middle'"),
    "heads": (
        lambda: losses.attention_mse(random(4, 2, 5, 5), random(4, 3, 5, 5)),
        r"number of heads, got shapes \(4, 2, 5, 5\) and \(4, 3, 5, 5\); choose",
    ),
    "no scores": (
        lambda: losses.attention_kl(random(4, 5, 2, 6), random(4, 5, 2, 6)),
        r"expected attention scores \[B, heads, L, L\]",
    ),
    "mask": (
        lambda: losses.attention_kl(**scores(mask=np.ones((4, 6), bool))),
        r"mask: expected a shape that broadcasts to \(4, 5\), got \(4, 6\)",
    ),
    "heads of relations": (
        lambda: losses.relation_kl(random(4, 5, 2, 6), random(4, 5, 3, 4)),
        "same texts and number of heads, .*; set relation_heads",
    ),
    "lengths": (
        lambda: losses.relation_kl(random(4, 5, 2, 6), random(4, 6, 2, 6)),
        "vectors .* of the same texts",
    ),
    "vectors": (
        lambda: losses.relation_kl(random(4, 5), random(4, 5)),
        r"expected vectors \[B, L, heads, d\] or tokens \[B, L, D\], got shape \(4, 5\)",
    ),
    "a divisor": (
        lambda: losses.relation_kl(**pair(4, 5, 2, 6), relation_heads=5),
        "relation_heads: expected a divisor of the width 12, got 5",
    ),
    "negative heads": (
        lambda: losses.MiniLMv2(relation_heads=-1),
        "relation_heads: expected at least 0, got -1",
    ),
    "layer 0": (
        lambda: losses.MiniLM(student_layer=0),
        "student_layer: expected a number of at least 1, or -1 .*, got 0",
    ),
    "layer -2": (lambda: losses.MiniLMv2(teacher_layer=-2), "teacher_layer: .*, got -2"),
    "widths": (
        lambda: losses.cosine(random(4, 5), random(4, 6)),
        r"got shapes \(4, 5\) and \(4, 6\); .* HiddenStates",
    ),
    "maps": (lambda: losses.cosine(random(4, 2, 2, 5), random(4, 2, 2, 5)), "expected tokens"),
    "states": (lambda: losses.pkd(random(4, 5, 2), random(4, 2)), "hidden states .* one shape"),
    "names": (
        lambda: losses.HiddenStates(("hidden_1", "hidden_2")),
        "layers: expected pairs of .*, got .'hidden_1', 'hidden_2'",
    ),
    "no names": (lambda: losses.HiddenStates(()), "layers: expected pairs"),
    "a name twice": (
        lambda: losses.HiddenStates((("a", "b"), ("a", "c"))),
        "each feature of the student once",
    ),
    "padding": (
        lambda: losses.feature_mse(**scores(mask=MASK)),
        r"of texts, got shape \(4, 2, 5, 5\); use attention_mse",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_rejected_in_one_line(name):
    call, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def run(loss, student, teacher, variables=None, weights=(1, 1, 0, 1)):
    """Returns the terms of a loss of features by name."""
    outputs = [Outputs(np.zeros((4, 1)), x, mask=MASK) for x in (student, teacher)]
    batch = Batch(None, np.zeros(4, np.int32), np.float32(weights))
    arguments = (outputs[0], {"teacher": outputs[1]}, batch, Clock.at())
    call = loss if variables is None else functools.partial(loss.apply, variables)
    return jax.jit(call)(*arguments)


def test_minilm_reads_the_layers_by_number():
    def features(kinds, layers, *shape, seed):
        return {
            f"{kind}_{n}": random(*shape, seed=seed + 10 * n + ord(kind[0]))
            for kind in kinds
            for n in range(1, layers + 1)
        }

    student = features(("attention",), 2, 4, 2, 5, 5, seed=0)
    student |= features(("query", "key", "value"), 2, 4, 5, 2, 3, seed=1)
    teacher = features(("attention",), 11, 4, 2, 5, 5, seed=2)
    teacher |= features(("query", "key", "value"), 11, 4, 5, 2, 6, seed=3)
    attention_kl = jax.jit(losses.attention_kl)
    relation_kl = jax.jit(losses.relation_kl, static_argnames="relation_heads")
    for numbers, (s, t) in (({}, (2, 11)), ({"student_layer": 1, "teacher_layer": 9}, (1, 9))):
        terms = run(losses.MiniLM(**numbers), student, teacher)
        assert terms.keys() == {"attention", "value"}
        expected = attention_kl(student[f"attention_{s}"], teacher[f"attention_{t}"], mask=MASK)
        np.testing.assert_allclose(terms["attention"].values, expected, rtol=1e-6)
        expected = relation_kl(student[f"value_{s}"], teacher[f"value_{t}"], mask=MASK)
        np.testing.assert_allclose(terms["value"].values, expected, rtol=1e-6)

        terms = run(losses.MiniLMv2(**numbers, relation_heads=3), student, teacher)
        assert terms.keys() == {"query", "key", "value"}
        for kind, term in terms.items():
            expected = relation_kl(
                student[f"{kind}_{s}"], teacher[f"{kind}_{t}"], mask=MASK, relation_heads=3
            )
            np.testing.assert_allclose(term.values, expected, rtol=1e-6)
            np.testing.assert_array_equal(term.weights, [1, 1, 0, 1])
    with pytest.raises(KeyError, match="attention_1"):
        run(losses.MiniLM(), {}, teacher)


@pytest.mark.slow  # Loads a real network; the tests above compare small ones with PyTorch.
def test_minilm_of_a_network_with_itself_is_0():
    folder = huggingface.Folder(MINILM)
    module = models.build(f"huggingface:{MINILM}", 2)
    texts = np.array([["A film of quiet power."], ["Dull."]], object)
    tokens, _ = tokenise(folder.load_tokenizer(), texts, 16)
    variables = start(module, huggingface.Weights(folder, Task(("a", "b"))))
    loss = losses.compose(one=(1.0, losses.MiniLM()), two=(1.0, losses.MiniLMv2(teacher_layer=5)))

    @jax.jit
    def values(tokens):
        outputs = module.apply(variables, tokens)
        batch = Batch(tokens, np.zeros(2, np.int32), np.ones(2, np.float32))
        terms = loss(outputs, {"teacher": outputs}, batch, Clock.at())
        return {name: term.values for name, term in terms.items()}

    result = values(tokens)
    assert {*result} == {"one_attention", "one_value", "two_query", "two_key", "two_value"}
    for name, value in result.items():
        if name.startswith("one"):
            np.testing.assert_array_equal(value, 0)
        else:  # Layers 6 and 5 differ.
            assert (value > 1e-3).all()


def test_hidden_states_share_one_projection():
    student = {"hidden_0": random(4, 5, 3), "hidden_1": random(4, 5, 3, seed=1)}
    teacher = {"hidden_0": random(4, 5, 6, seed=2), "hidden_4": random(4, 5, 6, seed=3)}
    loss = losses.HiddenStates((("hidden_0", "hidden_0"), ("hidden_1", "hidden_4")))
    dense = {"kernel": random(3, 6, seed=4), "bias": random(6, seed=5)}
    terms = run(loss, student, teacher, {"params": {"fit_dense": dense}})
    assert terms.keys() == {"hidden_0", "hidden_1"}
    for name, target in loss.layers:
        error = student[name] @ dense["kernel"] + dense["bias"] - teacher[target]
        np.testing.assert_allclose(terms[name].values, np.mean(error**2, axis=-1), rtol=1e-5)
        weights = MASK * np.float32([1, 1, 0, 1])[:, None]
        np.testing.assert_array_equal(terms[name].weights, weights)

    arrays = pair(4, 5, 3, teacher=(4, 5, 6), student_parameters={"fit_dense": dense})
    check_pytorch(module_loss(reference.HIDDEN_STATES), reference.hidden_states, arrays)
    check_transforms(module_loss(reference.HIDDEN_STATES), arrays)


def test_hidden_states_of_one_width_need_no_projection():
    student, teacher = {"a": random(4, 5, 6)}, {"b": random(4, 5, 6, seed=1)}
    loss = losses.HiddenStates((("a", "b"),), always_project=False)
    (term,) = run(loss, student, teacher, {}).values()
    expected = np.mean((student["a"] - teacher["b"]) ** 2, axis=-1)
    np.testing.assert_allclose(term.values, expected, rtol=1e-5)
    for shapes in (((4, 5, 6), (4, 6, 6)), ((4, 6), (4, 6))):
        with pytest.raises(ValueError, match=r"expected tokens \[B, L, D\] of the same texts"):
            run(loss, {"a": random(*shapes[0])}, {"b": random(*shapes[1])}, {})
    loss = losses.HiddenStates((("a", "a"), ("b", "b")))
    with pytest.raises(ValueError, match="one width of all layers"):
        run(loss, {"a": random(4, 5, 6), "b": random(4, 5, 3)}, {**teacher, "a": teacher["b"]}, {})


@pytest.mark.slow  # The tests above compare the loss and its gradients with PyTorch.
def test_a_student_learns_the_states_and_the_attention_of_a_deeper_teacher():
    def encoder(layers, width):
        return Encoder(
            EncoderConfig(
                "bert",
                vocab_size=30,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=2,
                intermediate_size=24,
                max_position_embeddings=8,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                initializer_range=0.5,
            ),
            3,
        )

    student, teacher = encoder(2, 8), encoder(4, 12)
    tokens = random_tokens(student.config, [6, 3, 1, 5], 6)
    batch = Batch(tokens, np.zeros(4, np.int32), np.float32([1, 1, 1, 0]))
    numbers = losses.layer_map(2, 4)
    hidden = tuple((f"hidden_{m}", f"hidden_{g}") for m, g in ((0, 0), *numbers))
    loss = losses.compose(
        hidden=(1.0, losses.HiddenStates(hidden)),
        minilm=(1.0, losses.MiniLM()),
        heads=(0.1, losses.OFA(("hidden_1",), final_logits=False)),
        **{
            f"attention_{m}": (
                0.1,
                losses.bind(losses.attention_mse, layers=(f"attention_{m}", f"attention_{g}")),
            )
            for m, g in numbers
        },
    )
    models_of = [
        Model(jax.jit(module.init)(jax.random.key(seed), tokens), module.apply)
        for seed, module in enumerate((student, teacher))
    ]
    teachers = {"teacher": LiveTeacher(models_of[1])}
    state = TrainState.create(
        student.apply,
        models_of[0].variables,
        optimizer=optax.sgd(0.05),
        loss=loss,
        loss_variables=init_loss(loss, jax.random.key(2), models_of[0], teachers, batch),
        key=jax.random.key(3),
        steps_per_epoch=1,
    )
    shapes = jax.tree.map(jnp.shape, state.params["loss"])
    projections = jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, tuple))
    assert projections == [(3,), (8, 3), (12,), (8, 12)]
    four, _ = update_on_four(state, teachers, [batch])
    one, _ = update_on_one(state, teachers, [batch])
    assert_close(arrays_of(four), arrays_of(one), 1e-5)
    step, history = jax.jit(train_step), []
    for _ in range(12):
        state, metrics = step(state, teachers, batch, jnp.int32(0))
        history.append({name: float(value.mean()) for name, value in metrics.items()})
    names = [name for name in history[0] if name != "loss" and f"{name}_scale" in history[0]]
    assert len(names) == 8
    for name in [*names, "loss"]:
        assert history[-1][name] < 0.9 * history[0][name], name
