import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.training import optimizers
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage


def rates(stage, steps_per_epoch):
    schedule = optimizers.learning_rate(stage, steps_per_epoch)
    return [float(schedule(step)) for step in range(stage.epochs * steps_per_epoch)]


def stage(epochs, max_temperature=1, **settings):
    optimizer = OptimizerConfig(learning_rate=1.0, **settings)
    return Stage("s", epochs, None, optimizer, max_temperature=max_temperature)


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
    np.testing.assert_allclose(rates(stage(4, schedule=schedule), 2), expected, rtol=1e-5)


def test_schedule_restarts_at_each_temperature():
    # 5 epochs of 2 steps, two temperatures: 4 steps for the first, 6 for the last.
    actual = rates(stage(5, 2, schedule="linear", restart_each_temperature=True), 2)
    expected = [*(1 - np.arange(4) / 4), *(1 - np.arange(6) / 6)]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def descend(config, gradients, start):
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
