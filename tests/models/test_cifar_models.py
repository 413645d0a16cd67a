"""The networks of the published CIFAR-100 tables: their sizes, features and outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax import models
from akd_jax.host.errors import InputError
from akd_jax.models import mobilenetv2, resnet50, shufflenet, vgg, wide_resnet
from tests.support import torch_models
from tests.support.torch_models import copy_weights, nchw, randomise

# Specification: parameters for 100 classes; height and channels of group_0, group_1, ... for 32x32
# images; size of 'pooled'.
NETWORKS = {
    "resnet:20": (278_324, [(32, 16), (32, 16), (16, 32), (8, 64)], 64),
    "resnet:32": (472_756, [(32, 16), (32, 16), (16, 32), (8, 64)], 64),
    "resnet:56": (861_620, [(32, 16), (32, 16), (16, 32), (8, 64)], 64),
    "resnet:110": (1_736_564, [(32, 16), (32, 16), (16, 32), (8, 64)], 64),
    "resnet:8x4": (1_233_540, [(32, 32), (32, 64), (16, 128), (8, 256)], 256),
    "resnet:32x4": (7_433_860, [(32, 32), (32, 64), (16, 128), (8, 256)], 256),
    "resnet50": (
        *(23_705_252, [(32, 64), (32, 256), (16, 512), (8, 1024), (4, 2048)]),
        2048,
    ),
    "wrn:16-2": (703_284, [(32, 16), (32, 32), (16, 64), (8, 128)], 128),
    "wrn:40-1": (569_780, [(32, 16), (32, 16), (16, 32), (8, 64)], 64),
    "wrn:40-2": (2_255_156, [(32, 16), (32, 32), (16, 64), (8, 128)], 128),
    "vgg:8": (3_965_028, [(32, 64), (16, 128), (8, 256), (4, 512), (4, 512)], 512),
    "vgg:13": (9_462_180, [(32, 64), (16, 128), (8, 256), (4, 512), (4, 512)], 512),
    "mobilenetv2:0.5": (812_836, [(16, 16), (16, 12), (8, 16), (4, 48), (2, 160)], 1280),
    "shufflenet_v1": (949_258, [(32, 24), (16, 240), (8, 480), (4, 960)], 960),
    "shufflenet_v2": (1_355_528, [(32, 24), (16, 116), (8, 232), (4, 464)], 1024),
}


@pytest.mark.parametrize("spec", NETWORKS)
def test_parameters_and_features_are_those_of_the_published_network(spec):
    parameters, groups, width = NETWORKS[spec]
    module = models.build(spec, 100)
    outputs, variables = jax.eval_shape(
        module.init_with_output, jax.random.key(0), jnp.zeros((2, 32, 32, 3))
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    shapes = {name: feature.shape for name, feature in outputs.features.items()}
    expected = {f"group_{n}": (2, size, size, c) for n, (size, c) in enumerate(groups)}
    if not spec.startswith("mobilenet"):
        expected |= {f"{n}_preactivation": s for n, s in expected.items() if n != "group_0"}
    if spec.startswith("wrn"):
        expected["last_map"] = expected["group_3"]
    assert shapes == {**expected, "pooled": (2, width)}
    assert outputs.head.kernel.shape == (width, 100)


ROWS = (((1, 16, 1, 1), (6, 24, 2, 1)), ((6, 32, 2, 2),))
# A small network of each kind, in Flax and in PyTorch, and the height of its images.
PAIRS = {
    "wrn": (
        wide_resnet.WideResNet(16, 1, 5),
        lambda: torch_models.WideResNet(16, 1, 5),
        12,
    ),
    "vgg": (
        vgg.VGG((2, 1, 1, 1, 2), 5, widths=(4, 5, 6, 7, 8)),
        lambda: torch_models.VGG((2, 1, 1, 1, 2), (4, 5, 6, 7, 8), 5),
        16,
    ),
    "vgg of Tiny ImageNet": (
        vgg.VGG((1, 1, 1, 1, 1), 5, widths=(2, 2, 2, 2, 2)),
        lambda: torch_models.VGG((1, 1, 1, 1, 1), (2, 2, 2, 2, 2), 5),
        64,
    ),
    "mobilenetv2": (
        mobilenetv2.MobileNetV2(0.3, 5, rows=ROWS),
        lambda: torch_models.MobileNetV2(ROWS, 0.3, 5),
        14,
    ),
    "shufflenet_v1": (
        shufflenet.ShuffleNetV1(5, widths=(36, 72), blocks=(2, 2)),
        lambda: torch_models.ShuffleNetV1((36, 72), (2, 2), 3, 5),
        14,
    ),
    "shufflenet_v2": (
        shufflenet.ShuffleNetV2(5, widths=(8, 12), blocks=(2, 2), last=16),
        lambda: torch_models.ShuffleNetV2((8, 12), (2, 2), 16, 5),
        14,
    ),
    "resnet50": (
        resnet50.ResNet50(5, widths=(3, 4), blocks=(1, 2)),
        lambda: torch_models.ResNet50((3, 4), (1, 2), 5),
        12,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_outputs_equal_pytorch(name):
    module, build, size = PAIRS[name]
    torch.manual_seed(0)
    reference = build()
    randomise(reference)
    images = np.float32(np.random.default_rng(0).normal(size=(8, size, size, 3)))
    variables = copy_weights(reference, module, images)

    @jax.jit
    def outputs_of_both_modes(variables, images):
        def apply(train):
            return module.apply(variables, images, train=train, mutable=["batch_stats"])[0]

        return apply(False), apply(True)

    for train, outputs in enumerate(outputs_of_both_modes(variables, images)):
        with torch.no_grad():
            logits, features = reference.train(bool(train))(nchw(images))
        np.testing.assert_allclose(outputs.logits, logits, rtol=0, atol=1e-4)
        assert outputs.features.keys() - {"last_map"} == features.keys()
        if "last_map" in outputs.features:  # What the classifier of a wide ResNet reads.
            pixels = np.asarray(outputs.features["last_map"]).mean(axis=(1, 2))
            np.testing.assert_allclose(pixels, outputs.features["pooled"], atol=1e-6)
        for feature, expected in features.items():
            if expected.ndim == 4:
                expected = expected.permute(0, 2, 3, 1)
            actual = outputs.features[feature]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4, err_msg=feature)
            if "preactivation" in feature:
                assert (actual < 0).any()
        np.testing.assert_array_equal(
            outputs.logits, outputs.features["pooled"] @ outputs.head.kernel + outputs.head.bias
        )


@jax.numpy_dtype_promotion("standard")  # Flax's batch norm promotes bfloat16 to float32.
@pytest.mark.parametrize("name", PAIRS)
def test_bfloat16_networks_have_float32_variables_and_logits(name):
    half = PAIRS[name][0].clone(dtype=jnp.bfloat16)
    images = jnp.zeros((2, 16, 16, 3))
    outputs, variables = jax.eval_shape(half.init_with_output, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert outputs.logits.dtype == outputs.features["pooled"].dtype == jnp.float32
    features = {n: x.dtype for n, x in outputs.features.items() if n != "pooled"}
    assert set(features.values()) == {jnp.dtype("bfloat16")}


def test_initial_kernels_have_the_published_spread():
    def kernels(module):
        variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        return jax.tree.map(np.asarray, variables["params"])

    params = kernels(vgg.VGG((1, 1, 1, 1, 1), 100, widths=(1, 1, 1, 8, 512)))
    # A normal distribution with variance 2 / (9 channels), and one with deviation 0.01.
    np.testing.assert_allclose(params["Conv_4"]["kernel"].std(), (2 / (9 * 512)) ** 0.5, rtol=0.02)
    np.testing.assert_allclose(params["Dense_0"]["kernel"].std(), 0.01, rtol=0.02)
    assert not params["Conv_4"]["bias"].any()
    params = kernels(shufflenet.ShuffleNetV2(5, widths=(32,), blocks=(1,), last=256))
    # PyTorch's default: uniform within 1 / sqrt(fan_in).
    kernel = params["Conv_1"]["kernel"]  # [1, 1, 32, 256]
    np.testing.assert_allclose(np.abs(kernel).max(), 32**-0.5, rtol=0.001)
    np.testing.assert_allclose(kernel.std(), (3 * 32) ** -0.5, rtol=0.02)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet:9x4", "a depth among 8, 14, .*, got '9'; write resnet:DEPTH or resnet:DEPTHx4"),
        ("resnet:8x2", "got '8x2'"),
        ("wrn:16", "expected DEPTH-WIDTH with a depth of 6n [+] 4, got '16'"),
        ("wrn:18-2", "got '18-2'"),
        ("wrn:4-2", "got '4-2'"),
        ("vgg:9", "expected a depth among 8, 11, 13, 16, 19, got '9'"),
        ("mobilenetv2:0.7", "expected a width among 0.5, 1.0, got '0.7'"),
        ("shufflenet_v1:2", "expected shufflenet_v1 without an argument"),
        ("resnet50:1", "expected resnet50 without an argument"),
    ],
)
def test_malformed_specifications_are_rejected(spec, message):
    with pytest.raises(InputError, match=message):
        models.build(spec, 10)


def test_images_that_are_too_small_for_the_pools_are_rejected():
    with pytest.raises(InputError, match="vgg: expected images of at least 8x8 pixels, got 7x9"):
        models.build("vgg:8", 10).init(jax.random.key(0), jnp.zeros((1, 7, 9, 3)))
