"""Compares the losses of convolutional maps with PyTorch and closed forms."""

import functools

import jax
import numpy as np
import pytest
from torch.nn import functional

from akd_jax import losses
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


def fsp_matrix(student_features, teacher_features):
    return losses.fsp_matrix(student_features, teacher_features)


@pytest.mark.parametrize(
    ("loss", "teacher_shape"),
    [
        (losses.nst, (3, 4, 2, 3)),
        (losses.feature_mse, (3, 4, 2, 4)),
        (losses.attention_transfer, (3, 2, 2, 3)),
        (fsp_matrix, (3, 2, 2, 3)),
    ],
)
def test_functions_under_jit_and_vmap(loss, teacher_shape):
    check_transforms(loss, pair((3, 4, 2, 4), teacher_shape))


def test_nst_with_dead_channels():
    inputs = pair((3, 2, 2, 4), (3, 2, 2, 3))
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
    "fsp of means": (
        losses.FSP(("first", "second"), pooling="average"),
        functools.partial(references.fsp, pool=functional.adaptive_avg_pool2d),
        LAYERS,
    ),
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
    loss, inputs = module_loss(module), with_random_parameters(module, inputs)
    check_pytorch(loss, reference, inputs, gradient_tolerance=2e-5)
    check_transforms(loss, inputs)


def test_mgd_equals_pytorch():
    module, inputs = losses.MGD("features", masked="channels", rate=0.5), FEATURES["map"]
    shape = inputs["teacher_features"].shape
    kept = random_numbers_of(module, losses.MGD.draw_mask, shape, batch_of(3))
    assert kept.shape == (3, 1, 1, 6)
    loss, inputs = module_loss(module), with_random_parameters(module, inputs)
    check_pytorch(loss, references.mgd, {**inputs, "mask": np.float32(kept)})
    check_transforms(loss, inputs)


def test_vid_starts_with_its_variance_and_ends_with_that_of_the_errors():
    inputs = pair((40, 3), (40, 2))
    inputs["teacher_features"] *= np.float32([1, 0.1])
    module = losses.VID("features", initial_variance=2.5)
    loss = jax.jit(module_loss(module))
    parameters = initial_parameters(module, inputs)
    # Without convolutions, the mean is 0.
    kernels = jax.tree.map(np.zeros_like, parameters)
    initial = loss(
        **inputs, student_parameters={**kernels, "softplus_inverse": parameters["softplus_inverse"]}
    )
    squares = np.square(inputs["teacher_features"])
    np.testing.assert_allclose(
        initial, (squares / 2.5 + np.log(2.5)).mean(axis=1) / 2, rtol=1e-4, atol=1e-6
    )
    best = np.log(np.expm1(squares.mean(axis=0) - 1e-5))
    slope = jax.grad(
        lambda s: loss(**inputs, student_parameters={**kernels, "softplus_inverse": s}).mean()
    )
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
        (
            losses.MGD("features", masked="rows"),
            MAP,
            MAP,
            "masked: expected 'pixels' or 'channels'",
        ),
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
