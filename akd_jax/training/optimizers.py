"""Optimizers and learning-rate schedules, built from their settings."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
import pydantic
from pydantic import Field

from akd_jax.host.settings import NonNegative, NonNegativeInt, Positive, Section

LearningRate = Callable[[Any], Any]  # Optax schedule: update number to learning rate.


class OptimizerConfig(Section):
    """Settings of an optimizer and of its learning-rate schedule."""

    name: Literal["sgd", "adam", "adamw", "adagrad"] = Field(
        default="sgd", description="Optimizer: 'sgd', 'adam', 'adamw' or 'adagrad'."
    )
    learning_rate: Positive = Field(
        default=0.1, description="Largest learning rate of the schedule, greater than 0."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Momentum of sgd, from 0 to less than 1; others do not use it."
    )
    weight_decay: NonNegative = Field(default=1e-4, description="Weight decay, at least 0.")
    clip_norm: NonNegative = Field(
        default=0.0, description="Largest global norm of the gradient; 0 turns clipping off."
    )
    schedule: Literal["constant", "step", "linear", "cosine", "inverse_sqrt"] = Field(
        default="step",
        description="Learning-rate schedule: 'constant'; 'step', which multiplies the rate by 0.1"
        " at each of the `drops`; 'linear' or 'cosine', which fall to 0; 'inverse_sqrt', which"
        " falls with the square root of the updates and needs warmup_epochs.",
    )
    drops: str = Field(
        default="1/2,3/4",
        description="Parts of the updates after which the schedule 'step' multiplies the rate by"
        " 0.1: fractions above 0 and below 1, separated by commas. 5/8,3/4,7/8 of 240 epochs are"
        " the epochs 150, 180 and 210.",
    )
    warmup_epochs: NonNegativeInt = Field(
        default=0,
        description="Number of epochs in which the learning rate first rises linearly from 0;"
        " fewer than the epochs of the stage.",
    )
    restart_each_temperature: bool = Field(
        default=False,
        description="Whether the schedule restarts at each temperature. The momentum is kept.",
    )

    @pydantic.model_validator(mode="after")
    def _check_warm_up(self) -> "OptimizerConfig":
        if self.schedule == "inverse_sqrt" and not self.warmup_epochs:
            raise ValueError("expected warmup_epochs of at least 1 with the schedule inverse_sqrt")
        return self

    @pydantic.field_validator("drops")
    @classmethod
    def _check_drops(cls, drops: str) -> str:
        if not all(0 < drop < 1 for drop in parse_drops(drops)):
            raise ValueError("expected fractions above 0 and below 1")
        return drops


def parse_drops(drops: str) -> list[Fraction]:
    """Returns the fractions of the setting `drops`, such as '1/2,3/4' or '0.5,0.75'.

    Raises:
      ValueError: a part between two commas is not a number.
    """
    try:
        return [Fraction(drop.strip()) for drop in drops.split(",")]
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected fractions, separated by commas, such as 1/2,3/4") from None


def learning_rate(
    config: OptimizerConfig, temperature_steps: Sequence[int], steps_per_epoch: int
) -> LearningRate:
    """Returns the learning rate of a stage as a function of its update number.

    The setting `schedule` is one of:
      'constant';
      'step': multiplied by 0.1 after each part of the updates in `drops`; the default, 1/2 and
        3/4, is that of the paper for images;
      'linear': falls to 0, as in the paper for text;
      'cosine': falls to 0;
      'inverse_sqrt': rate * sqrt(w / n) at update n, after a warm-up of w updates, as for
        Transformers (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

    With `warmup_epochs` the rate first rises linearly from 0, and the schedule runs over the
    remaining epochs. With `restart_each_temperature` the schedule restarts at each temperature.
    The student then learns the low temperatures with the same learning rates as the high ones.

    Args:
      config: the settings of the optimizer.
      temperature_steps: the temperature step of each epoch of the stage.
      steps_per_epoch: number of updates per epoch.
    """
    epochs = len(temperature_steps)
    starts = [config.warmup_epochs]
    if config.restart_each_temperature:
        starts += [
            epoch
            for epoch in range(config.warmup_epochs + 1, epochs)
            if temperature_steps[epoch] != temperature_steps[epoch - 1]
        ]
    ends = [*starts[1:], epochs]
    parts = [
        _schedule(config, (end - start) * steps_per_epoch, config.warmup_epochs * steps_per_epoch)
        for start, end in zip(starts, ends, strict=True)
    ]
    if config.warmup_epochs:
        starts = [0, *starts]
        warmup_steps = config.warmup_epochs * steps_per_epoch
        parts = [optax.linear_schedule(0.0, config.learning_rate, warmup_steps), *parts]
    if len(parts) == 1:
        return parts[0]
    return optax.join_schedules(parts, [start * steps_per_epoch for start in starts[1:]])


def build(config: OptimizerConfig, learning_rate: LearningRate) -> optax.GradientTransformation:
    """Returns the optimizer that the settings describe.

    'sgd', 'adam' and 'adagrad' add weight_decay * parameter to the gradient of every parameter
    first, as in PyTorch. 'adamw' decouples the decay from the gradient and does not decay vectors
    (biases, normalisation scales). `clip_norm` 0 turns gradient clipping off.
    """
    if config.name == "adamw":
        optimizer = optax.adamw(
            learning_rate,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda parameter: parameter.ndim > 1, params),
        )
    else:
        optimizer = optax.chain(
            optax.add_decayed_weights(config.weight_decay), _update_rule(config, learning_rate)
        )
    if config.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)

    def update(gradients: Any, state: optax.OptState, params: Any = None) -> Any:
        # Optax multiplies its integer step count with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(gradients, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def _update_rule(
    config: OptimizerConfig, learning_rate: LearningRate
) -> optax.GradientTransformation:
    """Returns an optimizer without weight decay."""
    match config.name:
        case "adam":
            return optax.adam(learning_rate)
        case "adagrad":
            # As PyTorch's defaults, whose 1e-10 is added to the root; Optax adds to the square.
            return optax.adagrad(learning_rate, initial_accumulator_value=0.0, eps=1e-20)
        case _:
            return optax.sgd(learning_rate, momentum=config.momentum or None)


def _schedule(config: OptimizerConfig, steps: int, warmup_steps: int) -> LearningRate:
    """Returns the configured schedule over the given number of updates, after the warm-up."""
    rate = config.learning_rate
    match config.schedule:
        case "constant":
            return optax.constant_schedule(rate)
        case "step":
            drops: dict[int, float] = {}
            # With fewer than 4 steps the default drops would coincide or precede the first step.
            for drop in parse_drops(config.drops) if steps >= 4 else []:
                step = int(steps * drop)
                drops[step] = 0.1 * drops.get(step, 1.0)
            return optax.piecewise_constant_schedule(rate, drops)
        case "linear":
            return optax.linear_schedule(rate, 0.0, steps)
        case "cosine":
            return optax.cosine_decay_schedule(rate, steps)
        case "inverse_sqrt":
            return lambda step: rate * jnp.sqrt(warmup_steps / (warmup_steps + step))
