"""Losses of several layers, and losses that read the teacher's classifier."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.data import Batches, Examples
from akd_jax.models.layers import classify
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.training.stage_run import build_stage
from akd_jax.training.state import init_loss
from akd_jax.types import Batch, Clock, Head, Outputs
from experiments.benchmarks.losses import review
from experiments.benchmarks.losses.case import random_features
from experiments.benchmarks.losses.modules import initial_parameters, module_loss
from tests.support.loss_checks import (
    check_devices,
    check_finite,
    check_pytorch,
    check_transforms,
)
from tests.support.steps import arrays as arrays_of
from tests.support.steps import assert_close, make_state, means, update_on_four, update_on_one

ROWS = 8
NAMES = ("a", "b", "c")


def layers(owner, *shapes, seed=0):
    """Features of several layers, as `module_loss` takes them."""
    rng = np.random.default_rng(seed)
    return {
        f"{owner}_{name}": np.float32(rng.normal(size=(ROWS, *shape)))
        for name, shape in zip(NAMES, shapes, strict=False)
    }


# The teacher has other channels in each layer, a larger map, a smaller one and a vector.
MAPS = {
    **layers("student", (6, 6, 3), (4, 4, 5), (7,)),
    **layers("teacher", (9, 6, 4), (2, 3, 6), (8,), seed=1),
}
TWO = {name: x for name, x in MAPS.items() if not name.endswith("c")}
REVIEW, SEMANTIC = losses.ReviewKD(NAMES), losses.SemCKD(("a", "b"), reduction=2)


def with_parameters(module, arrays):
    """The arrays with random 'student_parameters'."""
    rng = np.random.default_rng(1)

    def draw(array):
        fan_in = max(1, np.prod(array.shape[:-1]))
        return np.float32(rng.normal(size=array.shape) / np.sqrt(fan_in))

    parameters = jax.tree.map(draw, initial_parameters(module, arrays))
    return {**arrays, "student_parameters": parameters}


def srrl_arrays(student_shape=(3, 2, 5), teacher_shape=(7,)):
    rng = np.random.default_rng(2)
    return {
        **layers("student", student_shape),
        **layers("teacher", teacher_shape, seed=1),
        "teacher_logits": np.float32(rng.normal(size=(ROWS, 4))),
        "teacher_head": {
            "kernel": np.float32(rng.normal(size=(7, 4))),
            "bias": np.float32(rng.normal(size=4)),
        },
    }


@pytest.mark.parametrize("shape", [(6, 5, 7, 3), (6, 4, 4, 3), (6, 1, 1, 3), (6, 3)])
def test_hcl_equals_pytorch(shape):
    check_pytorch(losses.hcl, review.hcl, random_features(shape))


def test_hcl_weighs_the_resolutions():
    # A constant difference of 1 is 1 at each resolution. A difference without a mean is left by the
    # pools of 2x2 windows: 1 at full size, of 1 + 1/2 + 1/4 + 1/8.
    zeros = np.zeros((1, 8, 8, 1), np.float32)
    checkers = np.float32((-1.0) ** np.add(*np.indices((8, 8))))[None, :, :, None]
    np.testing.assert_allclose(losses.hcl(zeros + 1, zeros), [1], rtol=1e-6)
    np.testing.assert_allclose(losses.hcl(checkers, zeros), [8 / 15], rtol=1e-6)


@pytest.mark.parametrize("shapes", [((6, 4, 4, 3), (6, 2, 3, 3)), ((6, 2, 5, 3), (6, 4, 3, 3))])
def test_simkd_equals_pytorch(shapes):
    check_pytorch(losses.simkd, review.simkd, random_features(*shapes))


@pytest.mark.parametrize("loss", [losses.hcl, losses.simkd])
def test_functions_transform_and_do_not_depend_on_devices(loss):
    arrays = random_features((8, 5, 5, 3))
    check_transforms(loss, arrays)
    check_devices(loss, arrays)
    check_finite(loss, {name: 1e4 * x.astype(jnp.bfloat16) for name, x in arrays.items()})


def test_review_kd_equals_pytorch():
    loss, arrays = module_loss(REVIEW), with_parameters(REVIEW, MAPS)
    check_pytorch(loss, review.review_kd, arrays, gradient_tolerance=2e-5)
    check_transforms(loss, arrays)
    narrow = with_parameters(losses.ReviewKD(NAMES, max_channels=2), MAPS)
    assert narrow["student_parameters"]["fusion_0"]["Conv_0"]["kernel"].shape == (1, 1, 3, 2)


def test_semckd_equals_pytorch():
    module = losses.SemCKD(("a", "b"), reduction=2, temperature=0.25)
    arrays = with_parameters(module, TWO)
    reference = functools.partial(review.semckd, temperature=0.25)
    check_pytorch(module_loss(module), reference, arrays, gradient_tolerance=2e-5)
    check_transforms(module_loss(module), arrays)


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"), [((3, 2, 5), (7,)), ((5,), (7,)), ((2, 2, 5), (3, 3, 7))]
)
def test_srrl_equals_pytorch(student_shape, teacher_shape):
    module = losses.SRRL("a")
    arrays = with_parameters(module, srrl_arrays(student_shape, teacher_shape))
    check_pytorch(module_loss(module), review.srrl, arrays)
    check_transforms(module_loss(module), arrays)


def test_srrl_returns_its_terms_with_their_scales():
    arrays = srrl_arrays()
    outputs = Outputs(jnp.zeros((ROWS, 4)), {"a": arrays["student_a"]})
    teacher = Outputs(arrays["teacher_logits"], {"a": arrays["teacher_a"]})
    head = Head(**arrays["teacher_head"])
    batch = Batch(np.zeros(ROWS), np.zeros(ROWS, np.int32), np.float32([1, 1, 1, 0, 2, 1, 0, 1]))
    module = losses.SRRL("a", alpha=2.0, beta=3.0)
    arguments = (outputs, {"teacher": teacher.replace(head=head)}, batch, Clock.at())
    variables = module.init(jax.random.key(0), *arguments)
    terms, _ = module.apply(variables, *arguments, mutable=["batch_stats"])
    assert {name: term.scale for name, term in terms.items()} == {"features": 2, "classifier": 3}
    for term in terms.values():
        assert term.values.shape == (ROWS,)
        np.testing.assert_array_equal(term.weights, batch.weights)


@pytest.mark.slow  # Each network of projections takes seconds to compile.
@pytest.mark.parametrize(
    ("module", "arrays"),
    [
        (losses.ReviewKD(("a", "b")), TWO),
        (losses.SemCKD((("a", "a"), ("a", "b"))), TWO),
        (losses.SRRL("a"), srrl_arrays()),
    ],
    ids=["ReviewKD", "SemCKD", "SRRL"],
)
def test_modules_are_finite_for_one_dead_or_large_example(module, arrays):
    loss = module_loss(module)
    for factor in (0, 1e4):
        scaled = jax.tree.map(functools.partial(np.multiply, np.float32(factor)), arrays)
        inputs = jax.tree.map(lambda x: x[:1].astype(jnp.bfloat16), scaled)
        if "teacher_head" in arrays:
            inputs["teacher_head"] = arrays["teacher_head"]
        check_finite(loss, with_parameters(module, inputs))


def test_semckd_compares_all_layers_of_its_pairs_once():
    module = losses.SemCKD((("a", "a"), ("a", "b"), ("a", "c")))
    parameters = with_parameters(module, MAPS)["student_parameters"]
    names = {"query_0", *(f"{kind}_{n}" for kind in ("key", "projection_0") for n in range(3))}
    assert parameters.keys() == names


def test_examples_of_weight_0_have_no_part_in_the_attention():
    # The order of the padding rows must not matter. Batch norm does see them, as in the networks.
    weights = np.float32([1, 1, 1, 1, 1, 0, 0, 0])
    order = [0, 1, 2, 3, 4, 7, 5, 6]
    arrays = with_parameters(SEMANTIC, TWO)
    other = jax.tree.map(lambda x: x[order], TWO)

    loss = module_loss(SEMANTIC)

    @jax.jit
    def gradients(parameters, features, weights):
        def total(parameters):
            values = loss(student_parameters=parameters, weights=weights, **features)
            return values[:5].sum()

        return jax.value_and_grad(total)(parameters)

    parameters = arrays["student_parameters"]
    expected = gradients(parameters, TWO, weights)
    assert_close(gradients(parameters, other, weights), expected, 1e-4)
    assert np.abs(gradients(parameters, TWO, 0 * weights + 1)[0] - expected[0]) > 1e-3


class Tiny(nn.Module):
    """A network with a map, its mean and a classifier."""

    channels: int

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        del train, axis_name
        maps = jnp.tanh(nn.Dense(self.channels)(images))
        pooled = maps.mean(axis=(1, 2))
        logits, head = classify(nn.Dense(3), pooled)
        return Outputs(logits, {"map": maps, "pooled": pooled}, head=head)


@pytest.mark.slow  # tests/training compares modules on four devices.
def test_modules_train_a_network_on_four_devices_as_on_one():
    rng = np.random.default_rng(0)
    weights = np.float32([1] * 5 + [0] * 3)  # One device has only padding.
    images = np.float32(rng.normal(size=(8, 3, 2, 2)))
    batch = Batch(images, np.zeros(8, np.int32), weights)
    loss = losses.compose(
        review=(1.0, losses.ReviewKD(("map", "pooled"))),
        semantic=(1.0, losses.SemCKD((("map", "map"), ("map", "pooled")))),
        srrl=(1.0, losses.SRRL(("map", "pooled"))),
    )
    student, teacher = (
        Model(jax.jit(x.init)(jax.random.key(x.channels), images), x.apply)
        for x in (Tiny(2), Tiny(4))
    )
    teachers = {"teacher": LiveTeacher(teacher)}
    state = make_state(
        Tiny(2),
        images,
        loss=loss,
        variables=student.variables,
        optimizer=optax.sgd(0.01),
        loss_variables=init_loss(loss, jax.random.key(2), student, teachers, batch),
    )
    one, (metrics,) = update_on_one(state, teachers, [batch])
    four, (others,) = update_on_four(state, teachers, [batch])
    assert_close(arrays_of(four), arrays_of(one), 1e-5)
    for name in ("review", "semantic", "srrl_features", "srrl_classifier"):
        np.testing.assert_allclose(means(others)[name], means(metrics)[name], rtol=1e-4)
        assert means(metrics)[name] > 0
    assert float(metrics["srrl_classifier_scale"].mean()) == 5
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), one.params["loss"], state.params["loss"]
    )
    assert min(jax.tree.leaves(moved)) > 0


@pytest.mark.slow  # Other modules accumulate gradients in tests/training.
def test_semckd_takes_the_part_of_a_batch_that_gradients_are_accumulated_over():
    rng = np.random.default_rng(0)
    images = np.float32(rng.normal(size=(12, 2, 2, 2)))
    model = Model(jax.jit(Tiny(2).init)(jax.random.key(0), images), Tiny(2).apply)
    teachers = {"teacher": LiveTeacher(model)}
    run = build_stage(
        Stage("s", 1, losses.SemCKD(("pooled",)), OptimizerConfig(learning_rate=0.1)),
        model,
        teachers,
        Batches(Examples(images, np.zeros(12, np.int32)), 12, seed=0),
        key=jax.random.key(1),
        grad_accumulation_steps=3,
    )
    assert run.state.params["loss"]["query_0"]["hidden"]["kernel"].shape == (4, 2)
    _, (metrics,) = update_on_one(run.state, teachers, run.train.epoch())
    assert means(metrics)["loss"] > 0


def test_semckd_refuses_another_batch_size():
    arrays = with_parameters(SEMANTIC, TWO)
    fewer = jax.tree.map(lambda x: x[:4], TWO)
    with pytest.raises(ValueError, match=r"batches of 8 examples, .* got 4; keep the batch size"):
        module_loss(SEMANTIC)(**fewer, student_parameters=arrays["student_parameters"])


def test_a_classifier_of_another_width_or_of_stored_outputs_is_refused():
    module, arrays = losses.SRRL("a"), srrl_arrays(teacher_shape=(6,))
    with pytest.raises(ValueError, match=r"with the 7 elements that its classifier reads, got 6;"):
        with_parameters(module, arrays)
    del arrays["teacher_head"]
    with pytest.raises(ValueError, match=r"SRRL: .* set config\.teacher\.views to 0 to run the"):
        with_parameters(module, arrays)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (losses.ReviewKD(()), "ReviewKD: expected at least one layer, got none; set layers"),
        (losses.SemCKD(()), "SemCKD: expected at least one layer, got none; set layers"),
        (losses.ReviewKD(NAMES, max_channels=0), "max_channels: expected at least 1 .* got 0"),
        (losses.SemCKD(NAMES, temperature=0.0), "temperature: expected above 0, got 0"),
        (losses.SemCKD(NAMES, reduction=0), "reduction: expected at least 1, got 0"),
        (losses.SRRL("a", alpha=-1.0), "alpha: expected at least 0, got -1"),
        (losses.SRRL("a", beta=-1.0), "beta: expected at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(module, message):
    arrays = srrl_arrays() if isinstance(module, losses.SRRL) else MAPS
    with pytest.raises(ValueError, match=message):
        with_parameters(module, arrays)


def test_features_that_do_not_fit_are_refused():
    tokens = {**layers("student", (3, 4)), **layers("teacher", (3, 4))}
    for module in (losses.ReviewKD(("a",)), losses.SemCKD(("a",))):
        with pytest.raises(ValueError, match=r"expected maps .* or vectors .* got shape .8, 3, 4."):
            with_parameters(module, tokens)
    for shapes in (((6, 2, 2, 3), (6, 2, 2, 4)), ((6, 3), (6, 3)), ((6, 2, 2, 3), (6, 2, 3))):
        with pytest.raises(ValueError, match=r"simkd: expected maps .* with the same channels"):
            losses.simkd(**random_features(*shapes))
    with pytest.raises(ValueError, match=r"student's shape .6, 1, 1, 4., got .6, 1, 1, 3."):
        losses.hcl(**random_features((6, 4), (6, 3)))
