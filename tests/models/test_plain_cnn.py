import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import models
from akd_jax.host.errors import InputError


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("layers", "size", "channels", "count"),
    [
        # By hand: convolutions 9 * in * out, batch norms 2 * out, dense layers in * out + out.
        ("4 M FC", 8, 1, 36 + 8 + 4 * 4 * 4 * 10 + 10),
        ("16 M 16 M FC", 32, 3, 432 + 32 + 2304 + 32 + 8 * 8 * 16 * 10 + 10),
        ("8 8 M FC6 FC", 9, 2, 144 + 16 + 576 + 16 + 4 * 4 * 8 * 6 + 6 + 60 + 10),
    ],
)
def test_logits_shape_and_parameter_count(layers, size, channels, count):
    module = models.build(f"plain_cnn:{layers}", num_classes=10)
    images = jnp.zeros((3, size, size, channels))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    assert parameters(variables) == count
    assert jax.eval_shape(module.apply, variables, images).logits.shape == (3, 10)


# By hand from the table in the paper, for 32x32x3 images: weights of convolutions, batch norms,
# weights and biases of dense layers.
@pytest.mark.parametrize(
    ("depth", "num_classes", "count"),
    [
        (2, 10, (432 + 2304) + 64 + (1024 * 10 + 10)),
        (4, 10, (432 + 2304 + 4608 + 9216) + 2 * 96 + (2048 * 10 + 10)),
        (6, 10, (432 + 2304 + 4608 + 9216 + 18432 + 36864) + 2 * 224 + (1024 * 10 + 10)),
        (2, 100, (864 + 9216) + 128 + (2048 * 100 + 100)),
        (4, 100, (864 + 9216 + 18432 + 36864) + 2 * 192 + (4096 * 100 + 100)),
        (
            6,
            100,
            (864 + 9216 + 18432 + 36864 + 73728 + 147456) + 2 * 448 + (8192 * 100 + 100),
        ),
        (
            10,
            10,
            (864 + 9216 + 18432 + 36864 + 73728 + 147456 + 294912 + 3 * 589824)
            + 2 * (64 + 128 + 256 + 1024)
            + (1024 * 128 + 128 + 1280 + 10),
        ),
        (
            10,
            100,
            (864 + 9216 + 18432 + 36864 + 73728 + 147456 + 294912 + 3 * 589824)
            + 2 * (64 + 128 + 256 + 1024)
            + (1024 * 512 + 512 + 51200 + 100),
        ),
        (
            8,
            10,
            (432 + 2304 + 4608 + 9216 + 18432 + 36864 + 73728 + 147456)
            + 2 * 480
            + (512 * 64 + 64 + 640 + 10),
        ),
        (
            8,
            100,
            (864 + 9216 + 18432 + 36864 + 73728 + 147456 + 294912 + 589824)
            + 2 * (64 + 128 + 256 + 512)
            + (1024 * 64 + 64 + 6400 + 100),
        ),
    ],
)
def test_parameter_counts_of_the_networks_of_the_paper(depth, num_classes, count):
    module = models.build(f"plain_cnn:{depth}", num_classes)
    images = jnp.zeros((1, 32, 32, 3))
    assert parameters(jax.eval_shape(module.init, jax.random.key(0), images)) == count


def test_forward_and_features_equal_numpy():
    module = models.build("plain_cnn:2 M FC3 FC", num_classes=4)
    rng = np.random.default_rng(0)
    images = np.float32(rng.normal(size=(2, 4, 4, 1)))
    variables = module.init(jax.random.key(0), images)
    variables = jax.tree.map(lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), variables)
    outputs = jax.jit(module.apply)(variables, images)

    params, stats = variables["params"], variables["batch_stats"]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = np.zeros((2, 4, 4, 2))
    for row in range(3):
        for column in range(3):
            shifted = padded[:, row : row + 4, column : column + 4]
            x += shifted @ params["Conv_0"]["kernel"][row, column]
    norm, running = params["BatchNorm_0"], stats["BatchNorm_0"]
    x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]
    group = np.maximum(x, 0)
    pixels = group.reshape(2, 2, 2, 2, 2, 2).max(axis=(2, 4)).reshape(2, -1)
    pooled = np.maximum(pixels @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    expected = pooled @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-4)
    assert outputs.features.keys() == {"group_1", "group_1_preactivation", "pooled"}
    np.testing.assert_allclose(outputs.features["group_1_preactivation"], x, rtol=1e-4)
    np.testing.assert_allclose(outputs.features["group_1"], group, rtol=1e-4)
    np.testing.assert_allclose(outputs.features["pooled"], pooled, rtol=1e-4)


@pytest.mark.parametrize(
    ("layers", "shapes"),
    [
        ("4 M FC", [(8, 8, 4), (64,)]),
        ("4 5 M M 6 FC", [(8, 8, 5), (2, 2, 6), (24,)]),
        ("4 M 5 6 FC7 FC3 FC", [(8, 8, 4), (4, 4, 6), (3,)]),
        ("M FC", [(48,)]),
    ],
)
def test_each_block_of_convolutions_is_a_feature(layers, shapes):
    module = models.build(f"plain_cnn:{layers}", num_classes=10)
    outputs, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((5, 8, 8, 3)))
    names = [f"group_{number}" for number in range(1, len(shapes))]
    expected = dict(zip([*names, "pooled"], [(5, *shape) for shape in shapes], strict=True))
    shapes = {name: x.shape for name, x in outputs.features.items()}
    assert shapes == expected | {f"{name}_preactivation": expected[name] for name in names}


def test_only_training_updates_the_running_statistics():
    module = models.build("plain_cnn:2 FC", num_classes=4)
    images = jax.random.normal(jax.random.key(0), (64, 4, 4, 1))
    variables = module.init(jax.random.key(1), images)
    convolved = np.asarray(
        nn.Conv(2, (3, 3), use_bias=False).apply({"params": variables["params"]["Conv_0"]}, images)
    )
    apply = jax.jit(module.apply, static_argnames=("train", "mutable"))
    _, trained = apply(variables, images, train=True, mutable=("batch_stats",))
    expected = 0.1 * convolved.mean(axis=(0, 1, 2))  # 0.9 * 0 + 0.1 * the mean of the batch.
    mean = trained["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    _, evaluated = apply(variables, images, train=False, mutable=("batch_stats",))
    np.testing.assert_array_equal(evaluated["batch_stats"]["BatchNorm_0"]["mean"], 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnt:8", "name among .*, plain_cnn, .*, resnet, .*, got 'resnt:8'"),
        ("plain_cnn", "as the last word, got ''"),
        ("plain_cnn:8 M", "as the last word, got 'M'"),
        ("plain_cnn:8 x FC", "got 'x'"),
        ("plain_cnn:0 FC", "got '0'"),
        ("plain_cnn:8 FC8 M FC", "got 'M'"),
        ("plain_cnn:8 FC FC", "got 'FC'"),
    ],
)
def test_malformed_specifications_are_rejected(spec, message):
    with pytest.raises(InputError, match=message):
        models.build(spec, num_classes=10)


def test_too_many_pools_are_rejected():
    module = models.build("plain_cnn:8 M M M M FC", num_classes=10)
    with pytest.raises(InputError, match="after every pool, got 8x8; remove an M"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
