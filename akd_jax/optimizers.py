"""Optimizers and learning-rate schedules, built from their settings."""

from typing import Any

import jax
import optax

from akd_jax.config import OptimizerConfig
from akd_jax.types import LearningRate, Stage


def learning_rate(stage: Stage, steps_per_epoch: int) -> LearningRate:
    """Returns the learning rate of a stage as a function of its update number.

    The setting `schedule` is one of:
      'constant';
      'step': multiplied by 0.1 at 1/2 and at 3/4 of the updates, as in the paper for images;
      'linear': falls to 0, as in the paper for text;
      'cosine': falls to 0.

    With `restart_each_temperature` the schedule restarts at each temperature. The student then
    learns the low temperatures with the same learning rates as the high ones.

    Args:
      stage: its optimizer settings, epochs and max_temperature define the schedule.
      steps_per_epoch: number of updates per epoch.
    """
    config = stage.optimizer
    if not config.restart_each_temperature:
        return _schedule(config, stage.epochs * steps_per_epoch)
    steps_per_temperature = stage.epochs // stage.max_temperature * steps_per_epoch
    starts = [steps_per_temperature * k for k in range(stage.max_temperature)]
    ends = [*starts[1:], stage.epochs * steps_per_epoch]
    parts = [_schedule(config, end - start) for start, end in zip(starts, ends, strict=True)]
    return optax.join_schedules(parts, starts[1:])


def build(config: OptimizerConfig, learning_rate: LearningRate) -> optax.GradientTransformation:
    """Returns the optimizer that the settings describe.

    'sgd' adds weight_decay * parameter to the gradient of every parameter before the momentum,
    as in PyTorch. 'adamw' decouples the decay from the gradient and does not decay vectors
    (biases, normalisation scales). `clip_norm` 0 turns gradient clipping off.
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
        # Optax multiplies its integer step count with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(gradients, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def _schedule(config: OptimizerConfig, steps: int) -> LearningRate:
    """Returns the configured schedule over the given number of updates."""
    rate = config.learning_rate
    match config.schedule:
        case "constant":
            return optax.constant_schedule(rate)
        case "step":
            # With fewer than 4 steps the drops would coincide or precede the first step.
            drops = {steps // 2: 0.1, steps * 3 // 4: 0.1} if steps >= 4 else {}
            return optax.piecewise_constant_schedule(rate, drops)
        case "linear":
            return optax.linear_schedule(rate, 0.0, steps)
        case "cosine":
            return optax.cosine_decay_schedule(rate, steps)
