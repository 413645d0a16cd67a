"""Compares the losses of convolutional maps with PyTorch, closed forms and other devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from akd_jax import losses
from akd_jax.losses.randomness import example_keys
from akd_jax.models.network import Model
from akd_jax.teachers.live import StoredTeacher
from akd_jax.training.state import init_loss
from akd_jax.types import Batch, Outputs
from experiments.benchmarks.losses import features as references
from experiments.benchmarks.losses.modules import (
    batch_of,
    initial_parameters,
    module_loss,
    random_numbers_of,
)
from tests.support.loss_checks import (
    check_finite,
    check_pytorch,
    check_transforms,
    value_and_gradients,
)
from tests.support.steps import (
    arrays,
    assert_close,
    make_state,
    means,
    update_on_four,
    update_on_one,
)


def normal(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def pair(student_shape, teacher_shape):
    return {
        "student_features": normal(*student_shape),
        "teacher_features": normal(*teacher_shape, seed=1),
    }


def with_random_parameters(module, inputs):
    """Adds parameters of a module, none of which is 0, to its arrays."""
    rng = np.random.default_rng(2)
    parameters = jax.tree.map(
        lambda x: np.float32(0.5 * rng.normal(size=x.shape)), initial_parameters(module, inputs)
    )
    return {**inputs, "student_parameters": parameters}


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [
        ((2, 2, 3, 5), (2, 2, 3, 7)),  # Fewer pixels than channels.
        ((2, 6, 5, 3), (2, 6, 5, 2)),  # More pixels than channels.
        ((2, 4, 2, 4), (2, 2, 3, 6)),  # Each network has the larger map in one direction.
    ],
)
def test_nst_equals_pytorch(student_shape, teacher_shape):
    check_pytorch(losses.nst, references.nst, pair(student_shape, teacher_shape))


def test_nst_depends_on_the_set_of_channels_only():
    for pixels in (2, 5):  # Both forms of the sum.
        maps = normal(2, pixels, pixels, 4)
        scaled = maps[..., [2, 0, 3, 1]] * np.float32([1, -2, 3, 0.5])
        doubled = np.concatenate([scaled, maps], axis=-1)
        np.testing.assert_allclose(jax.jit(losses.nst)(maps, doubled), 0, atol=1e-6)


def test_nst_under_jit_and_vmap_and_with_dead_channels():
    inputs = pair((3, 2, 2, 4), (3, 2, 2, 3))
    check_transforms(losses.nst, inputs)
    inputs["student_features"][0] = 0
    inputs["student_features"][1, ..., 0] = 0
    values = check_finite(losses.nst, inputs)
    teacher = inputs["teacher_features"][0].reshape(4, 3)
    cosines = (teacher.T @ teacher) / np.outer(*2 * [np.linalg.norm(teacher, axis=0)])
    np.testing.assert_allclose(values[0], np.mean(cosines**2), rtol=1e-5)


def test_fsp_matrix_by_hand():
    first = np.float32([[[[1], [2]], [[3], [5]]]])  # Four pixels, one channel.
    second = np.float32([[[[2, -1]]]])  # One pixel, two channels.
    np.testing.assert_allclose(losses.fsp_matrix(first, second), [[[10, -5]]])
    np.testing.assert_allclose(losses.fsp_matrix(second, first), [[[10], [-5]]])
    means = losses.fsp_matrix(first, second, pooling="average")
    np.testing.assert_allclose(means, [[[5.5, -2.75]]])
    np.testing.assert_allclose(losses.fsp_matrix(first, first), [[[39 / 4]]])


FEATURES = {
    "map": pair((3, 3, 2, 4), (3, 3, 2, 6)),
    "same shape": pair((3, 2, 3, 4), (3, 2, 3, 4)),
    "vector": pair((3, 5), (3, 4)),
    "larger map": pair((3, 4, 4, 3), (3, 2, 2, 4)),
}
LAYERS = {
    "student_first": normal(3, 4, 4, 3),
    "student_second": normal(3, 2, 2, 4, seed=1),
    "teacher_first": normal(3, 4, 2, 2, seed=2),
    "teacher_second": normal(3, 2, 2, 4, seed=3),
}
MODULES = {
    "fsp": (losses.FSP(("first", "second")), references.fsp, LAYERS),
    "vid of maps": (losses.VID("features"), references.vid, FEATURES["map"]),
    "vid of vectors": (losses.VID("features"), references.vid, FEATURES["vector"]),
    "ab": (losses.AB("features"), references.ab, FEATURES["map"]),
    "ab of one shape": (losses.AB("features"), references.ab, FEATURES["same shape"]),
    "factor transfer": (
        losses.FactorTransfer("features"),
        references.factor_transfer,
        FEATURES["larger map"],
    ),
    "hint": (losses.Hint("features"), references.hint, FEATURES["map"]),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_equal_pytorch(name):
    module, reference, inputs = MODULES[name]
    inputs = with_random_parameters(module, inputs)
    check_pytorch(module_loss(module), reference, inputs, gradient_tolerance=2e-5)


@pytest.mark.parametrize("mask", ["pixels", "channels"])
def test_mgd_equals_pytorch(mask):
    module, inputs = losses.MGD("features", mask=mask, rate=0.5), FEATURES["map"]
    shape = inputs["teacher_features"].shape
    kept = random_numbers_of(module, losses.MGD.draw_mask, shape, batch_of(3))
    assert kept.shape == ((3, 3, 2, 1) if mask == "pixels" else (3, 1, 1, 6))
    check_pytorch(
        module_loss(module),
        references.mgd,
        {**with_random_parameters(module, inputs), "mask": np.float32(kept)},
    )


def test_mgd_masks_at_its_rate_and_by_the_id_of_the_example():
    draw = functools.partial(
        random_numbers_of, losses.MGD("features", rate=0.25), losses.MGD.draw_mask, (64, 8, 8, 2)
    )
    kept = draw(batch_of(64))
    assert abs(kept.mean() - 0.75) < 0.03  # The standard deviation is 0.007.
    assert len(np.unique(kept.reshape(64, -1), axis=0)) == 64
    ids = np.int32([3, 3, *range(62)])
    of_ids = draw(batch_of(64).replace(ids=ids))
    np.testing.assert_array_equal(of_ids[0], of_ids[1])
    np.testing.assert_array_equal(of_ids[2:], kept[:62])  # Rows are the ids of a batch without.


def test_keys_of_examples_do_not_depend_on_the_devices():
    ids = np.int32([5, 3, 9, 1])
    for batch in (batch_of(4), batch_of(4).replace(ids=ids)):
        keys = [jax.random.fold_in(jax.random.key(0), device) for device in range(2)]
        expected = jax.random.key_data(example_keys(keys[0], batch, None))
        shares = jax.tree.map(lambda x: x.reshape(2, 2), batch)
        actual = jax.pmap(
            lambda key, share: jax.random.key_data(example_keys(key, share, "devices")),
            axis_name="devices",
        )(jnp.stack(keys), shares)
        np.testing.assert_array_equal(actual.reshape(expected.shape), expected)


def test_vid_starts_with_its_variance_and_ends_with_that_of_the_errors():
    inputs = pair((40, 3), (40, 2))
    inputs["teacher_features"] *= np.float32([1, 0.1])
    module = losses.VID("features", initial_variance=2.5)
    loss = jax.jit(module_loss(module))
    parameters = initial_parameters(module, inputs)
    # Without convolutions, the mean is 0.
    kernels = jax.tree.map(np.zeros_like, parameters)
    initial = loss(**inputs, student_parameters={**kernels, "variance": parameters["variance"]})
    squares = np.square(inputs["teacher_features"])
    np.testing.assert_allclose(
        initial, (squares / 2.5 + np.log(2.5)).mean(axis=1) / 2, rtol=1e-4, atol=1e-6
    )
    best = np.log(np.expm1(squares.mean(axis=0) - 1e-5))
    slope = jax.grad(lambda s: loss(**inputs, student_parameters={**kernels, "variance": s}).mean())
    np.testing.assert_allclose(slope(best), 0, atol=1e-5)
    assert (np.abs(slope(best + 1)) > 0.01).all()


def test_ab_is_0_beyond_the_margin_on_the_side_of_the_teacher():
    student = np.float32([[2.0, -2.0, 0.5, -0.5, 0.0]])
    loss = module_loss(losses.AB("features", margin=2.0))
    for teacher, expected in ((1.0, 16 + 2.25 + 6.25 + 4), (0.0, 16 + 6.25 + 2.25 + 4)):
        values = loss(
            student_features=student,
            teacher_features=np.full_like(student, teacher),
            student_parameters={},
        )
        np.testing.assert_allclose(values, expected)


def test_only_the_reconstruction_trains_the_paraphraser():
    module = losses.FactorTransfer("features", rate=0.4, reconstruction_weight=0.0)
    inputs, loss = with_random_parameters(module, FEATURES["map"]), module_loss(module)
    parameters = inputs["student_parameters"]
    assert parameters["paraphraser_2"]["kernel"].shape == (3, 3, 2, 2)  # 0.4 of 6 channels.
    _, gradients = value_and_gradients(loss, inputs)
    for name, gradient in gradients["student_parameters"].items():
        assert (np.abs(gradient["kernel"]).max() > 0) == ("translator" in name), name


@pytest.mark.parametrize("name", ["fsp", "vid of maps", "ab", "factor transfer", "mgd"])
def test_modules_are_finite_at_extreme_features(name):
    module, inputs = losses.MGD("features"), FEATURES["map"]
    if name in MODULES:
        module, _, inputs = MODULES[name]
    loss = module_loss(module)
    extreme = {key: x.copy() for key, x in inputs.items()}
    for x in extreme.values():
        x[0], x[1] = 0, 1e6 * x[1]
    check_finite(loss, {**extreme, "student_parameters": initial_parameters(module, inputs)})
    # One example with one pixel and one channel.
    small = {key: np.ones((1, 1, 1, 1), jnp.bfloat16) for key in inputs}
    check_finite(loss, {**small, "student_parameters": initial_parameters(module, small)})


class Student(nn.Module):
    """Two maps, and logits."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del train, axis_name
        small = nn.Dense(3)(inputs)
        large = nn.Dense(2)(jnp.repeat(jnp.repeat(inputs, 2, axis=1), 2, axis=2))
        return Outputs(small.mean(axis=(1, 2)), {"large": large, "small": small})


def test_an_update_is_the_same_on_four_devices():
    inputs = normal(8, 2, 2, 3)
    maps = {"large": normal(8, 4, 4, 2, seed=1), "small": normal(8, 2, 2, 4, seed=2)}
    weights = np.float32([1, 0.5, 2, 1, 1, 0, 0, 0])  # The last device has only padding.
    labels, stored = np.zeros(8, np.int32), {"teacher": Outputs(normal(8, 3), maps)}
    batch = Batch(inputs, labels, weights, stored=stored)
    teachers = {"teacher": StoredTeacher("teacher")}
    loss = losses.compose(
        nst=(5.0, losses.bind(losses.nst, layers="small")),
        fsp=(5.0, losses.FSP(("large", "small"))),
        vid=(1.0, losses.VID("small")),
        ab=(0.003, losses.AB("small")),
        ft=(50.0, losses.FactorTransfer("small", reconstruction_weight=0.02)),
        mgd=(0.001, losses.MGD("small")),
    )
    student = Student()
    model = Model(student.init(jax.random.key(1), inputs), student.apply)
    state = make_state(
        student,
        inputs,
        loss=loss,
        variables=model.variables,
        loss_variables=init_loss(loss, jax.random.key(3), model, teachers, batch),
        optimizer=optax.sgd(0.1),
    )
    one, metrics = update_on_one(state, teachers, [batch])
    four, on_four = update_on_four(state, teachers, [batch])
    assert_close(arrays(four), arrays(one), 1e-5)
    assert_close(means(on_four[0]), means(metrics[0]), 1e-4)
    values = means(metrics[0])
    assert {"nst", "fsp", "vid", "ab", "ft_factor", "ft_reconstruction", "mgd"} < values.keys()
    np.testing.assert_allclose(values["ft_reconstruction_scale"], 1.0)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), one.params, state.params)
    assert min(jax.tree.leaves(moved)) > 0  # Each parameter is trained.


SCALAR, VECTOR, MAP = (3,), (3, 5), (3, 2, 2, 5)


@pytest.mark.parametrize(
    ("module", "student_shape", "teacher_shape", "message"),
    [
        (losses.AB("features"), (3, 6, 5), (3, 6, 5), r"AB: .* got tokens \(3, 6, 5\), whose"),
        (losses.AB("features"), MAP, (1, 2, 2, 5), r"the same examples in 'features' of the"),
        (losses.AB("features", margin=0.0), MAP, MAP, "margin: expected .* above 0, got 0.0"),
        (losses.VID("features"), (3, 6, 5), (3, 7, 5), r"VID: .* \(3, 6, 5\) and \(3, 7, 5\)"),
        (losses.VID("features"), SCALAR, SCALAR, "VID: expected both maps"),
        (losses.VID("features", initial_variance=1e-6), MAP, MAP, "initial_variance: .* 1e-06"),
        (losses.MGD("features"), VECTOR, VECTOR, r"maps \[B, H, W, C\] of the same examples"),
        (losses.MGD("features", rate=1.0), MAP, MAP, r"rate: expected .* \[0, 1\), got 1.0"),
        (losses.MGD("features", mask="rows"), MAP, MAP, "mask: expected 'pixels' or 'channels'"),
        (losses.FactorTransfer("features"), VECTOR, VECTOR, r"maps \[B, H, W, C\] of"),
        (losses.FactorTransfer("features", rate=0.0), MAP, MAP, r"rate: .* \(0, 1\], got 0.0"),
        (
            losses.FactorTransfer("features", reconstruction_weight=-1.0),
            *(MAP, MAP),
            "reconstruction_weight: .* at least 0, got -1.0",
        ),
        (losses.FSP("features"), MAP, MAP, "expected two layers, .* got layers='features'"),
        (
            losses.FSP(("features", "features"), project=False),
            *(MAP, (3, 2, 2, 4)),
            "FSP: expected the teacher's 4 channels in the student's map, got 5; set project=True",
        ),
    ],
)
def test_bad_layers_and_options_are_rejected(module, student_shape, teacher_shape, message):
    with pytest.raises(ValueError, match=message):
        initial_parameters(module, pair(student_shape, teacher_shape))


def test_maps_that_do_not_fit_are_rejected():
    with pytest.raises(
        ValueError, match=r"expected maps .* got shapes \(3, 5\) and \(3, 2, 2, 5\)"
    ):
        losses.nst(normal(*VECTOR), normal(*MAP))
    with pytest.raises(ValueError, match=r"multiple of \(2, 2\) .* got \(3, 2\); set pooling='av"):
        losses.fsp_matrix(normal(1, 3, 2, 4), normal(1, 2, 2, 4))
    with pytest.raises(ValueError, match="pooling: expected 'max' or 'average', got 'min'"):
        losses.fsp_matrix(normal(*MAP), normal(*MAP), pooling="min")
