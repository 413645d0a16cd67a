"""Compares the losses of features with PyTorch and NumPy, and trains small networks with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional

from akd_jax import losses, models
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training import parallel
from akd_jax.training.state import TrainState, init_loss
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Clock, Outputs, Tokens


def features(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def value_and_gradient(function, student, teacher, **kwargs):
    """Returns the values, and the gradient of their sum for the student's features."""

    def total(student, teacher):
        values = function(student, teacher, **kwargs)
        return values.sum(), values

    (_, values), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(
        student, teacher
    )
    np.testing.assert_array_equal(gradients[1], 0)  # The teacher gets no gradient.
    return np.asarray(values), np.asarray(gradients[0])


@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3), (4, 2, 3, 5)])
def test_feature_mse_equals_the_closed_form(shape):
    student, teacher = features(*shape), features(*shape, seed=1)
    values, gradient = value_and_gradient(losses.feature_mse, student, teacher)
    rows = shape[:2] if len(shape) == 3 else shape[:1]  # Tokens have one value each.
    error = (student - teacher).reshape(*rows, -1)
    np.testing.assert_allclose(values, np.mean(error**2, axis=-1), rtol=1e-5)
    expected = 2 * (student - teacher) / error.shape[-1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [
        ((3, 4, 4, 5), (3, 4, 4, 2)),
        ((3, 8, 8, 4), (3, 4, 4, 6)),
        ((3, 3, 2, 4), (3, 7, 5, 6)),  # The windows of the average pool overlap.
        ((3, 6, 2, 4), (3, 4, 3, 6)),  # Each network has the larger map in one direction.
    ],
)
def test_attention_transfer_equals_pytorch(student_shape, teacher_shape):
    student, teacher = features(*student_shape), features(*teacher_shape, seed=1)
    values, gradient = value_and_gradient(losses.attention_transfer, student, teacher)
    size = tuple(map(min, student_shape[1:3], teacher_shape[1:3]))

    def attention(images):
        pooled = functional.adaptive_avg_pool2d(images.permute(0, 3, 1, 2), size)
        return functional.normalize(pooled.square().mean(dim=1).flatten(1))

    tensor = torch.tensor(student, requires_grad=True)
    expected = (attention(tensor) - attention(torch.tensor(teacher))).square().mean(dim=1)
    expected.sum().backward()
    np.testing.assert_allclose(values, expected.detach(), rtol=1e-4)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-3, atol=1e-6)
    # The maps are normalised. Their elements are not negative: their difference is at most 2.
    scaled, _ = value_and_gradient(losses.attention_transfer, 7 * student, teacher)
    np.testing.assert_allclose(scaled, values, rtol=1e-4)
    assert (values > 0).all()
    assert (values * np.prod(size) <= 2).all()


def test_attention_transfer_of_tokens_runs_over_real_tokens():
    student, teacher = features(3, 6, 4), features(3, 6, 5, seed=1)
    lengths = [6, 2, 0]
    mask = np.arange(6) < np.array(lengths)[:, None]
    values, gradient = value_and_gradient(losses.attention_transfer, student, teacher, mask=mask)
    for row, length in enumerate(lengths[:2]):
        parts = [np.mean(x[row, :length] ** 2, axis=-1) for x in (student, teacher)]
        difference = np.subtract(*(part / np.linalg.norm(part) for part in parts))
        np.testing.assert_allclose(values[row], np.mean(difference**2), rtol=1e-5)
    assert values[2] == 0
    np.testing.assert_array_equal(gradient[~mask], 0)
    whole, _ = value_and_gradient(losses.attention_transfer, student, teacher)
    np.testing.assert_allclose(whole[0], values[0], rtol=1e-6)


def test_attention_transfer_of_dead_features_is_finite():
    teacher = features(2, 3, 3, 4)
    values, gradient = value_and_gradient(losses.attention_transfer, 0 * teacher, teacher)
    np.testing.assert_allclose(values, 1 / 9, rtol=1e-5)  # The mean of a squared norm of 1.
    np.testing.assert_array_equal(gradient, 0)


def make_hint(student, teacher, **kwargs):
    """Returns random variables, and a function from features to a Term and the new statistics."""
    hint = losses.Hint("layer", **kwargs)
    rows = len(student)
    batch = Batch(student, np.zeros(rows, np.int32), np.ones(rows, np.float32))

    def arguments(student, teacher):
        student, teacher = (Outputs(jnp.zeros((rows, 1)), {"layer": x}) for x in (student, teacher))
        return student, {"teacher": teacher}, batch, Clock.at()

    variables = jax.jit(hint.init)(jax.random.key(0), *arguments(student, teacher))
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), variables)

    def apply(student, teacher):
        terms, changed = hint.apply(
            variables, *arguments(student, teacher), mutable=["batch_stats"]
        )
        (term,) = terms.values()
        return term, changed

    return variables, apply


# Shapes of student and teacher, and the layer of PyTorch that maps the first to the second.
MAPS = {
    "stride": ((3, 8, 8, 4), (3, 4, 4, 5), lambda: torch.nn.Conv2d(4, 5, 3, 2, padding=1)),
    "transposed": (
        (3, 2, 3, 4),
        (3, 4, 6, 5),
        lambda: torch.nn.ConvTranspose2d(4, 5, 4, 2, padding=1),
    ),
    "1x1": ((3, 4, 3, 4), (3, 4, 3, 5), lambda: torch.nn.Conv2d(4, 5, 1)),
    "valid": ((3, 7, 5, 4), (3, 4, 4, 5), lambda: torch.nn.Conv2d(4, 5, (4, 2))),
}


@pytest.mark.parametrize("linear", [False, True], ids=["batch norm and relu", "linear"])
@pytest.mark.parametrize("kind", MAPS)
def test_hints_of_maps_equal_pytorch(kind, linear):
    student_shape, teacher_shape, make_layer = MAPS[kind]
    student, teacher = features(*student_shape), features(*teacher_shape, seed=1)
    options = {"batch_norm": False, "relu": False} if linear else {}
    variables, apply = make_hint(student, teacher, **options)
    params = dict(variables["params"])

    layer, norm = make_layer(), torch.nn.BatchNorm2d(5)
    scales = params.pop("BatchNorm_0", None)
    ((_, convolution),) = params.items()
    kernel = torch.tensor(convolution["kernel"])
    if kind == "transposed":  # PyTorch flips the kernel.
        layer.weight.data = kernel.permute(2, 3, 0, 1).flip(2, 3)
    else:
        layer.weight.data = kernel.permute(3, 2, 0, 1)
    tensor = torch.tensor(student, requires_grad=True)
    if linear:
        layer.bias.data = torch.tensor(convolution["bias"])
        projected = layer(tensor.permute(0, 3, 1, 2))
    else:
        layer.bias.data = torch.zeros(5)
        norm.weight.data, norm.bias.data = (torch.tensor(scales[n]) for n in ("scale", "bias"))
        norm.running_mean = torch.tensor(variables["batch_stats"]["BatchNorm_0"]["mean"])
        projected = torch.relu(norm(layer(tensor.permute(0, 3, 1, 2))))
    target = torch.tensor(teacher).permute(0, 3, 1, 2)
    expected = (projected - target).square().mean(dim=(1, 2, 3))
    expected.sum().backward()

    values, gradient = value_and_gradient(lambda s, t: apply(s, t)[0].values, student, teacher)
    np.testing.assert_allclose(values, expected.detach(), rtol=1e-4)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-3, atol=1e-4)
    if not linear:
        statistics = jax.jit(apply)(student, teacher)[1]["batch_stats"]["BatchNorm_0"]
        np.testing.assert_allclose(statistics["mean"], norm.running_mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (4, 6, 3)], ids=["vectors", "tokens"])
def test_hints_of_vectors_and_tokens_are_linear(shape):
    student, teacher = features(*shape), features(*shape[:-1], 5, seed=1)
    variables, apply = make_hint(student, teacher)
    assert variables.keys() == {"params"}
    dense = variables["params"]["Dense_0"]
    error = student @ dense["kernel"] + dense["bias"] - teacher
    values, gradient = value_and_gradient(lambda s, t: apply(s, t)[0].values, student, teacher)
    np.testing.assert_allclose(values, np.mean(error**2, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(gradient, 2 / 5 * error @ dense["kernel"].T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape", "options", "message"),
    [
        ((3, 3, 3, 4), (3, 5, 5, 4), {}, "half as large .* got shapes .3, 3, 3, 4. and .3, 5, 5"),
        ((3, 4), (3, 4, 4), {}, "both tokens .* got shapes .3, 4. and .3, 4, 4."),
        (
            (3, 5, 4),
            (3, 6, 4),
            {},
            "of the same texts .* got shapes .3, 5, 4. and .3, 6, 4.",
        ),
        ((3, 5, 4), (3, 5, 4), {"batch_norm": True}, "no batch norm for tokens"),
    ],
)
def test_hints_between_shapes_that_do_not_fit_are_rejected(
    student_shape, teacher_shape, options, message
):
    with pytest.raises(ValueError, match=message):
        make_hint(features(*student_shape), features(*teacher_shape), **options)


def test_features_that_do_not_fit_are_rejected():
    with pytest.raises(ValueError, match=r"student's shape \(3, 4\), got \(3, 5\); use Hint"):
        losses.feature_mse(features(3, 4), features(3, 5))
    for shapes in (
        ((3, 4), (3, 4)),
        ((3, 5, 4), (3, 5)),
        ((3, 5, 4), (3, 6, 4)),
        ((3, 2, 2, 4), (3, 4, 4)),
        ((3, 2, 2, 4), (1, 2, 2, 4)),
    ):
        with pytest.raises(ValueError, match=r"expected maps .* choose other layers"):
            losses.attention_transfer(*(features(*shape) for shape in shapes))
    scores, mask = features(3, 2, 5, 5), np.ones((3, 5), bool)
    with pytest.raises(ValueError, match=r"got shapes .3, 2, 5, 5. and .* of texts; choose"):
        losses.attention_transfer(scores, scores, mask=mask)  # Scores are no maps of pixels.


def test_bind_reads_the_named_layers_the_weights_and_the_mask():
    student, teacher = features(2, 3, 4), features(2, 3, 5, seed=1)
    weights = np.float32([1, 0.5])

    def read(student_features, teacher_features, weights, mask, axis_name):
        np.testing.assert_array_equal(student_features, student)
        np.testing.assert_array_equal(teacher_features, teacher)
        np.testing.assert_array_equal(weights, [1, 0.5])
        assert axis_name == "device"
        return jnp.zeros(2) if mask is None else mask.sum(axis=1).astype(jnp.float32)

    def values(token_mask):
        loss = losses.bind(read, teacher="large", layers=("a", "b"))
        outputs = Outputs(jnp.zeros((2, 1)), {"a": student}, mask=token_mask)
        teachers = {"large": Outputs(jnp.zeros((2, 1)), {"b": teacher})}
        batch = Batch(features(2, 8, 8, 1), np.zeros(2, np.int32), weights)
        (term,) = loss(outputs, teachers, batch, Clock.at(), axis_name="device").values()
        np.testing.assert_array_equal(term.weights, weights)
        return term.values

    ids = np.zeros((2, 3), np.int32)
    np.testing.assert_array_equal(values(Tokens(ids, ids, np.int32([3, 1])).mask), [3, 1])
    np.testing.assert_array_equal(values(None), 0)


def make_state(module, inputs, loss, teachers, batch, **options):
    model = Model(jax.jit(module.init)(jax.random.key(1), inputs), module.apply)
    return TrainState.create(
        module.apply,
        model.variables,
        optimizer=optax.sgd(0.1),
        loss=loss,
        loss_variables=init_loss(loss, jax.random.key(2), model, teachers, batch),
        key=jax.random.key(3),
        steps_per_epoch=1,
        **options,
    )


def make_teacher(module, inputs):
    variables = jax.jit(module.init)(jax.random.key(0), inputs)
    return {"teacher": LiveTeacher(Model(variables, module.apply))}


def assert_close(actual, expected, atol):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=0, atol=atol),
        jax.device_get(actual),
        jax.device_get(expected),
    )


def means(metrics):
    return {name: metric.mean() for name, metric in metrics.items()}


def arrays(state):
    return {"params": state.params, "model": state.model_state, "loss": state.loss_state}


@pytest.fixture
def images():
    weights = np.float32([1] * 10 + [0] * 6)  # One device has only padding.
    labels = np.random.default_rng(0).integers(0, 5, 16).astype(np.int32)
    return Batch(features(16, 8, 8, 1), labels, weights)


def test_a_step_trains_the_projector_by_the_gradient(images):
    student = models.build("plain_cnn:4 M FC", 5)
    teachers = make_teacher(models.build("plain_cnn:4 M FC6 FC", 5), images.inputs)
    loss = losses.Hint("pooled")
    state = make_state(
        student, images.inputs, loss, teachers, images, loss_optimizer=optax.sgd(0.5)
    )
    new, metrics = jax.jit(train_step)(state, teachers, images, jnp.int32(0))

    outputs, _ = student.apply(
        state.model.variables, images.inputs, train=True, mutable=["batch_stats"]
    )
    x = np.asarray(outputs.features["pooled"])
    target = np.asarray(teachers["teacher"](images).features["pooled"])
    before = jax.tree.map(np.asarray, state.params["loss"]["Dense_0"])
    error = (x @ before["kernel"] + before["bias"] - target)[:10]
    np.testing.assert_allclose(metrics["loss"].mean(), np.mean(error**2), rtol=1e-4)
    after = new.params["loss"]["Dense_0"]
    gradient = 2 * error / (10 * 6)
    np.testing.assert_allclose(
        after["kernel"], before["kernel"] - 0.5 * x[:10].T @ gradient, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        after["bias"], before["bias"] - 0.5 * gradient.sum(axis=0), rtol=1e-4, atol=1e-6
    )
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), new.params["student"], state.params["student"]
    )
    assert moved["Conv_0"]["kernel"] > 0
    assert moved["Dense_0"]["kernel"] == 0  # The classifier is behind the feature.


@pytest.mark.slow  # tests/training compares losses on four devices.
def test_all_losses_train_a_convolutional_network_on_four_devices(images):
    loss = losses.compose(
        ce=(1.0, losses.cross_entropy),
        hint=(1.0, losses.Hint(("group_2", "group_3"))),
        at=(10.0, losses.bind(losses.attention_transfer, layers=("group_1", "group_2"))),
        sp=(10.0, losses.bind(losses.sp, layers=("group_2", "group_3"))),
        distance=(2.0, losses.rkd_distance),
        angle=(4.0, losses.rkd_angle),
    )
    student = models.build("plain_cnn:4 M 6 FC", 5)
    teachers = make_teacher(models.build("resnet:8", 5), images.inputs)
    state = make_state(student, images.inputs, loss, teachers, images)
    jitted, on_four = jax.jit(train_step), parallel.compile_train_step(train_step)
    replicated, first, metrics = parallel.replicate(state), state, {}
    for _ in range(2):
        state, metrics = jitted(state, teachers, images, jnp.int32(0))
        replicated, packed = on_four(replicated, teachers, parallel.shard(images), jnp.int32(0))
        # The order of the sums differs.
        assert_close(means(packed.fetch()[0]), means(metrics), 1e-4)
        assert_close(arrays(replicated), arrays(state), 1e-4)
    assert jax.local_device_count() == 4

    # The loss is the weighted sum of its terms.
    values = means(metrics)
    names = ("ce", "hint", "at", "sp", "distance", "angle")
    total = sum(values[f"{name}_scale"] * values[name] for name in names)
    np.testing.assert_allclose(values["loss"], total, rtol=1e-5)
    assert min(values[name] for name in names) > 1e-5
    initial, _ = jitted(first, teachers, images, jnp.int32(0))
    for name in ("Conv_0", "BatchNorm_0"):
        (projector,) = initial.params["loss"].values()
        (before,) = first.params["loss"].values()
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), projector[name], before[name])
        assert min(jax.tree.leaves(moved)) > 0
    assert state.loss_state.keys() == {"batch_stats"}
    (statistics,) = state.loss_state["batch_stats"].values()
    assert np.abs(statistics["BatchNorm_0"]["mean"]).max() > 0


def test_padding_and_devices_do_not_change_the_losses_of_texts():
    def encoder(layers, width, heads):
        config = EncoderConfig("bert", 20, width, layers, heads, 12, 16, hidden_dropout_prob=0.0)
        return Encoder(dataclasses.replace(config, attention_probs_dropout_prob=0.0), 3)

    rng = np.random.default_rng(0)
    lengths = np.int32([5, 3, 1, 4, 2, 5, 5, 3])
    ids = np.where(np.arange(5) < lengths[:, None], rng.integers(1, 20, (8, 5)), 0)
    weights = np.float32([1, 1, 1, 1, 1, 0, 1, 0])

    def batch(length):
        # Arbitrary ids beyond the length of a text must not matter.
        padded = np.pad(ids, ((0, 0), (0, length - 5)), constant_values=7).astype(np.int32)
        tokens = Tokens(padded, np.zeros_like(padded), lengths)
        return Batch(tokens, np.zeros(8, np.int32), weights)

    loss = losses.compose(
        hint=(1.0, losses.Hint(("hidden_1", "hidden_2"))),
        at=(10.0, losses.bind(losses.attention_transfer, layers=("hidden_0", "hidden_1"))),
        scores=(0.1, losses.bind(losses.attention_mse, layers=("attention_1", "attention_2"))),
        sp=(10.0, losses.sp),
    )
    short, long = batch(5), batch(8)
    teachers = make_teacher(encoder(2, 12, 2), short.inputs)
    state = make_state(encoder(1, 8, 2), short.inputs, loss, teachers, short)
    expected, metrics = jax.jit(train_step)(state, teachers, short, jnp.int32(0))
    step = parallel.compile_train_step(train_step)
    actual, packed = step(parallel.replicate(state), teachers, parallel.shard(long), jnp.int32(0))
    assert_close(means(packed.fetch()[0]), means(metrics), 1e-4)
    assert_close(arrays(actual), arrays(expected), 1e-6)
    assert min(means(metrics)[name] for name in ("hint", "at", "scores", "sp")) > 0
    # 15 of the tokens belong to texts of weight 1.
    np.testing.assert_array_equal(metrics["hint"].weight, lengths[weights > 0].sum())
