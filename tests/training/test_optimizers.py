import jax.numpy as jnp
import numpy as np
import pytest
import torch

from akd_jax.training import optimizers
from akd_jax.training.optimizers import OptimizerConfig


def rates(temperature_steps, steps_per_epoch, **settings):
    """The learning rate of every update, with a largest rate of 1."""
    config = OptimizerConfig(learning_rate=1.0, **settings)
    schedule = optimizers.learning_rate(config, temperature_steps, steps_per_epoch)
    return [float(schedule(step)) for step in range(len(temperature_steps) * steps_per_epoch)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1] * 8),
        ("step", [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("linear", 1 - np.arange(8) / 8),
        ("cosine", (1 + np.cos(np.pi * np.arange(8) / 8)) / 2),
    ],
)
def test_learning_rate_of_every_update(schedule, expected):
    np.testing.assert_allclose(rates([0] * 4, 2, schedule=schedule), expected, rtol=1e-5)
    # The temperatures change nothing unless the schedule restarts.
    np.testing.assert_allclose(rates([0, 1, 1, 2], 2, schedule=schedule), expected, rtol=1e-5)


def test_learning_rate_drops_after_the_given_parts():
    # 240 epochs of 2 updates: the published schedule of CIFAR-100 drops after 150, 180 and 210.
    expected = np.repeat([1, 0.1, 0.01, 0.001], np.array([150, 30, 30, 30]) * 2)
    np.testing.assert_allclose(rates([0] * 240, 2, drops="5/8,3/4,7/8"), expected, rtol=1e-5)
    # Drops at the same update are all applied, and 0.29 * 100 is not rounded down to 28.
    np.testing.assert_allclose(rates([0] * 4, 1, drops="0.5, 0.6"), [1, 1, 0.01, 0.01], rtol=1e-5)
    expected = np.repeat([1, 0.1], [29, 71])
    np.testing.assert_allclose(rates([0] * 100, 1, drops="0.29"), expected, rtol=1e-5)


@pytest.mark.parametrize("drops", ["", "1/2,", "half", "1/0", "0", "1", "-1/2", "nan"])
def test_drops_that_are_no_fractions_are_rejected(drops):
    with pytest.raises(ValueError, match="expected fractions"):
        OptimizerConfig(drops=drops)


def test_schedule_restarts_at_each_temperature():
    # 5 epochs of 2 steps, two temperatures: 4 steps for the first, 6 for the last.
    actual = rates([0, 0, 1, 1, 1], 2, schedule="linear", restart_each_temperature=True)
    expected = [*(1 - np.arange(4) / 4), *(1 - np.arange(6) / 6)]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "rest"),
    [
        ("constant", [1] * 6),
        ("step", [1, 1, 1, 0.1, 0.01, 0.01]),
        ("linear", 1 - np.arange(6) / 6),
        ("cosine", (1 + np.cos(np.pi * np.arange(6) / 6)) / 2),
    ],
)
def test_warm_up_rises_from_0_before_the_schedule(schedule, rest):
    # 5 epochs of 2 steps, of which 2 epochs warm up: the schedule has the other 6 steps.
    actual = rates([0] * 5, 2, schedule=schedule, warmup_epochs=2)
    np.testing.assert_allclose(actual, [0, 0.25, 0.5, 0.75, *rest], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("temperature_steps", "lengths"),
    [
        ([0, 0, 1, 1], [2, 4]),  # The warm-up ends within the first temperature.
        ([0, 1, 1, 1], [6]),  # It ends with the first temperature.
        ([0, 1, 2, 2], [2, 4]),
    ],
)
def test_schedule_restarts_after_the_warm_up(temperature_steps, lengths):
    actual = rates(
        temperature_steps, 2, schedule="linear", warmup_epochs=1, restart_each_temperature=True
    )
    expected = [0, 0.5, *np.concatenate([1 - np.arange(n) / n for n in lengths])]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_step_schedule_of_fewer_than_four_updates_is_constant(steps):
    assert rates([0], steps, schedule="step") == [1] * steps


def descend(config, gradients, start):
    """A matrix and a vector of one element after updates with these gradients."""
    optimizer = optimizers.build(config, lambda step: config.learning_rate)
    params = {"kernel": jnp.full((1, 1), start), "bias": jnp.full((1,), start)}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(
            {name: jnp.full_like(p, gradient) for name, p in params.items()}, state, params
        )
        params = {name: p + updates[name] for name, p in params.items()}
    return {name: float(p.squeeze()) for name, p in params.items()}


def test_sgd_equals_two_steps_of_pytorch_by_hand():
    # v1 = 1 + .1*2 = 1.2, p = 2 - .5*1.2 = 1.4; v2 = .9*1.2 + (1 + .1*1.4) = 2.22, p = .29.
    config = OptimizerConfig(name="sgd", learning_rate=0.5, momentum=0.9, weight_decay=0.1)
    params = descend(config, [1.0, 1.0], start=2.0)
    np.testing.assert_allclose([params["kernel"], params["bias"]], [0.29, 0.29], rtol=1e-5)


GRADIENTS = [3.0, -0.5, 0.0, 1e-3, 2.0]
IN_TORCH = {
    "sgd": lambda params, **options: torch.optim.SGD(params, momentum=0.9, **options),
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1e-6])  # Small gradients show the epsilon.
@pytest.mark.parametrize("name", IN_TORCH)
def test_optimizer_equals_pytorch(name, scale, weight_decay):
    gradients = [scale * gradient for gradient in GRADIENTS]
    start = 2.0 * scale
    config = OptimizerConfig(name=name, learning_rate=0.05, weight_decay=weight_decay)
    params = descend(config, gradients, start)
    expected = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = IN_TORCH[name]([expected], lr=0.05, weight_decay=weight_decay)
    for gradient in gradients:
        expected.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    for value in params.values():  # Matrices and vectors decay alike.
        assert value == pytest.approx(expected.item(), rel=1e-4)


def test_adamw_does_not_decay_vectors():
    # The first step of Adam has length 1. The decay .1 * 2 applies only to the matrix.
    config = OptimizerConfig(name="adamw", learning_rate=0.5, weight_decay=0.1)
    params = descend(config, [3.0], start=2.0)
    np.testing.assert_allclose(params["bias"], 2 - 0.5, rtol=1e-5)
    np.testing.assert_allclose(params["kernel"], 2 - 0.5 * (1 + 0.2), rtol=1e-5)


def test_clip_norm_limits_the_global_norm():
    config = OptimizerConfig(learning_rate=1.0, momentum=0.0, clip_norm=1.0)
    params = descend(config, [3.0], start=0.0)  # Two parameters: norm 3 sqrt(2) becomes 1.
    np.testing.assert_allclose(params["kernel"], -1 / np.sqrt(2), rtol=1e-5)
