"""Optimizers and learning-rate schedules, from their settings."""

from typing import Any

import jax
import optax

from akd_jax.config import OptimizerConfig
from akd_jax.types import LearningRate, Stage


def learning_rate(stage: Stage, steps_per_epoch: int) -> LearningRate:
    """The stage's learning rate as a function of the updates made in it.

    `schedule` is one of: 'constant'; 'step', times 0.1 at 1/2 and again at 3/4, as the
    paper trains on images; 'linear' to 0, as it trains on text; 'cosine' to 0. With
    `restart_each_temperature` the schedule runs anew at each temperature, so that the
    sharp end of the teacher is learned at the same rates as the flat end.
    """
    config = stage.optimizer
    if not config.restart_each_temperature:
        return _schedule(config, stage.epochs * steps_per_epoch)
    held = stage.epochs // stage.max_temperature * steps_per_epoch
    starts = [held * k for k in range(stage.max_temperature)]
    ends = [*starts[1:], stage.epochs * steps_per_epoch]
    parts = [_schedule(config, end - start) for start, end in zip(starts, ends, strict=True)]
    return optax.join_schedules(parts, starts[1:])


def build(config: OptimizerConfig, learning_rate: LearningRate) -> optax.GradientTransformation:
    """The optimizer of the settings.

    'sgd' adds weight_decay * parameter to the gradient of every parameter, before the
    momentum, as PyTorch's does. 'adamw' decays apart from the gradient, and spares vectors
    (biases, normalisation scales). `clip_norm` 0 leaves the gradient as it is.
    """
    if config.name == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(learning_rate, momentum=config.momentum or None),
        )
    else:
        optimizer = optax.adamw(
            learning_rate,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda parameter: parameter.ndim > 1, params),
        )
    if config.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)

    def update(gradients: Any, state: optax.OptState, params: Any = None) -> Any:
        # Optax multiplies its integer step count with floats; a caller may forbid that.
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(gradients, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def _schedule(config: OptimizerConfig, steps: int) -> LearningRate:
    rate = config.learning_rate
    match config.schedule:
        case "constant":
            return optax.constant_schedule(rate)
        case "step":
            # In under 4 steps the falls would come at once or before the first step.
            falls = {steps // 2: 0.1, steps * 3 // 4: 0.1} if steps >= 4 else {}
            return optax.piecewise_constant_schedule(rate, falls)
        case "linear":
            return optax.linear_schedule(rate, 0.0, steps)
        case "cosine":
            return optax.cosine_decay_schedule(rate, steps)
