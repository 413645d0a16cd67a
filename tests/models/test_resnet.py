"""Compares the networks with PyTorch, with the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from akd_jax import losses, models, schedules
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from akd_jax.types import Batch

MAX_TEMPERATURE = 10


class TorchBlock(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def torch_resnet(depth, num_classes, channels):
    layers = [nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for width in (16, 32, 64):
        for block in range((depth - 2) // 6):
            stride = 2 if width > 16 and block == 0 else 1
            layers.append(TorchBlock(before, width, stride))
            before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers)


def to_jax(module, variables):
    """Converts PyTorch's weights to Flax's variables; both list their layers in the same order."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    (dense,) = [m for m in module.modules() if isinstance(m, nn.Linear)]

    def array(tensor):
        return tensor.detach().numpy().copy()

    convs = iter([array(m.weight).transpose(2, 3, 1, 0) for m in convs])
    norms = iter(norms)
    params, stats = {}, {}

    def fill(template, params, stats):
        for name in sorted(
            template, key=lambda name: (name.split("_")[0], int(name.split("_")[1]))
        ):
            if name.startswith("Conv"):
                params[name] = {"kernel": next(convs)}
            elif name.startswith("BatchNorm"):
                norm = next(norms)
                params[name] = {"scale": array(norm.weight), "bias": array(norm.bias)}
                stats[name] = {"mean": array(norm.running_mean), "var": array(norm.running_var)}

    template = variables["params"]
    fill({name: 0 for name in template if not name.startswith("Basic")}, params, stats)
    for number in range(sum(name.startswith("Basic") for name in template)):
        name = f"BasicBlock_{number}"
        params[name], stats[name] = {}, {}
        fill(template[name], params[name], stats[name])
    params["Dense_0"] = {"kernel": array(dense.weight).T, "bias": array(dense.bias)}
    assert next(convs, None) is None
    assert next(norms, None) is None
    return {"params": params, "batch_stats": stats}


def pair(depth, num_classes=10, channels=3, size=32, seed=0):
    """Returns a network in PyTorch, and the same network as a Flax module with variables."""
    torch.manual_seed(seed)
    reference = torch_resnet(depth, num_classes, channels)
    for norm in (m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    module = models.build(f"resnet:{depth}", num_classes)
    images = jnp.zeros((1, size, size, channels))
    template = jax.eval_shape(module.init, jax.random.key(0), images)
    variables = to_jax(reference, template)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), variables, dict(template))
    return reference, module, variables


def nchw(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def torch_features(reference, depth, images):
    """Returns the logits and the features by their names."""
    blocks = (depth - 2) // 6
    ends = {3: "group_0", **{3 + blocks * group: f"group_{group}" for group in (1, 2, 3)}}
    x, features = nchw(images), {}
    for number, layer in enumerate(reference, start=1):
        x = layer(x)
        if number in ends:
            features[ends[number]] = x.numpy().transpose(0, 2, 3, 1)
    return x.numpy(), {**features, "pooled": features["group_3"].mean(axis=(1, 2))}


@pytest.mark.parametrize(("depth", "size", "channels"), [(8, 14, 1), (14, 16, 3)])
def test_forward_and_features_equal_pytorch(depth, size, channels):
    reference, module, variables = pair(depth, channels=channels, size=size)
    images = np.float32(np.random.default_rng(0).normal(size=(8, size, size, channels)))
    for train in (False, True):
        reference.train(train)
        with torch.no_grad():
            expected, features = torch_features(reference, depth, images)
        outputs, _ = jax.jit(
            lambda v, x, train=train: module.apply(v, x, train=train, mutable=["batch_stats"])
        )(variables, images)
        np.testing.assert_allclose(outputs.logits, expected, rtol=0, atol=1e-4)
        before = {f"group_{n}_preactivation": features[f"group_{n}"] for n in (1, 2, 3)}
        assert outputs.features.keys() == {**features, **before}.keys()
        for name, feature in before.items():
            activation = np.maximum(outputs.features[name], 0)
            np.testing.assert_allclose(activation, feature, atol=1e-4, err_msg=name)
            assert (outputs.features[name] < 0).any()
        np.testing.assert_array_equal(
            outputs.logits, outputs.features["pooled"] @ outputs.head.kernel + outputs.head.bias
        )
        for name, feature in features.items():
            np.testing.assert_allclose(outputs.features[name], feature, atol=1e-4, err_msg=name)


def test_steps_of_stage_1_equal_pytorch():
    rng = np.random.default_rng(0)
    reference, module, variables = pair(8)
    torch_teacher, teacher, teacher_variables = pair(8, seed=1)
    torch_teacher.eval()
    reference.train()
    torch_sgd = torch.optim.SGD(reference.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)

    factor = schedules.annealing_factor(MAX_TEMPERATURE)
    loss = losses.bind(losses.annealed_mse, factor=factor)
    sgd = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.05, momentum=0.9))
    state = TrainState.create(
        module.apply,
        variables,
        optimizer=sgd,
        loss=loss,
        key=jax.random.key(0),
        steps_per_epoch=1,
    )
    teachers = {"teacher": LiveTeacher(Model(teacher_variables, teacher.apply))}
    step = jax.jit(train_step)
    for k in range(5):
        images = np.float32(rng.normal(size=(16, 16, 16, 3)))
        with torch.no_grad():
            targets = (k + 1) / MAX_TEMPERATURE * torch_teacher(nchw(images))
        expected = nn.functional.mse_loss(reference(nchw(images)), targets)
        torch_sgd.zero_grad()
        expected.backward()
        torch_sgd.step()
        batch = Batch(images, np.zeros(16, np.int32), np.ones(16, np.float32))
        state, metrics = step(state, teachers, batch, jnp.int32(k))
        np.testing.assert_allclose(metrics["loss"].mean(), expected.item(), rtol=1e-3)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("depth", "num_classes", "channels"), [(8, 100, 1), (20, 10, 3)])
def test_parameter_count_equals_pytorch(depth, num_classes, channels):
    module = models.build(f"resnet:{depth}", num_classes)
    images = jnp.zeros((1, 32, 32, channels))
    params = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    reference = torch_resnet(depth, num_classes, channels)
    assert count(params) == sum(p.numel() for p in reference.parameters())


def test_parameter_counts_are_close_to_the_published_ones():
    # He et al., 2016, table 6, in millions. Their shortcuts have no convolutions (0.003 million).
    for depth, millions in ((20, 0.27), (56, 0.85), (110, 1.7)):
        module = models.build(f"resnet:{depth}", 10)
        variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        np.testing.assert_allclose(count(variables["params"]) / 1e6, millions, rtol=0.03)


@jax.numpy_dtype_promotion("standard")  # Flax's batch norm promotes bfloat16 to float32.
@pytest.mark.parametrize("spec", ["resnet:8", "plain_cnn:4"])
def test_bfloat16_is_close_to_float32_and_keeps_float32_variables(spec):
    images = np.float32(np.random.default_rng(0).normal(size=(8, 16, 16, 3)))
    whole, half = (models.build(spec, 10, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    variables = jax.jit(whole.init)(jax.random.key(0), images)

    def train(module):
        apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
        return jax.jit(apply)(variables, images)

    outputs, changed = train(half)
    assert outputs.logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(changed)} == {jnp.dtype("float32")}
    initial = jax.eval_shape(half.init, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    expected, _ = train(whole)
    error = np.abs(outputs.logits - expected.logits).max()
    assert 0 < error < 0.1  # Differs only by rounding.


def test_unknown_depth_is_rejected():
    with pytest.raises(InputError, match=r"resnet:9: expected a depth among 8, 14, .* got '9'"):
        models.build("resnet:9", 10)
