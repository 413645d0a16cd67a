"""From the temperature step to the temperature and the annealing factor.

Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163) walks T from
tau_max down to 1. The temperature step k = 0 .. tau_max - 1 counts the walk:

    T = tau_max - k        Phi(T) = 1 - (T - 1) / tau_max = (k + 1) / tau_max

All functions here are traceable in their first argument, so that a step compiled once
serves every temperature. `max_temperature` is the paper's tau_max.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from akd_jax import checks


def temperature(temperature_step: ArrayLike, max_temperature: ArrayLike) -> jax.Array:
    """T = max_temperature - k, and never under 1.

    Args:
      temperature_step: k, int [...].
      max_temperature: tau_max, at least 1.

    Returns:
      T, int32 [...].

    Raises:
      ValueError: a concrete max_temperature is not an integer of at least 1.
    """
    _check_max_temperature(max_temperature)
    return jnp.maximum(_int32(max_temperature) - _int32(temperature_step), 1)


def annealing_factor(temperature_step: ArrayLike, max_temperature: ArrayLike) -> jax.Array:
    """Phi = (k + 1) / max_temperature, and never over 1.

    Args:
      temperature_step: k, int [...].
      max_temperature: tau_max, at least 1.

    Returns:
      Phi, float32 [...], from 1 / max_temperature at k = 0 to exactly 1 at the last step.

    Raises:
      ValueError: a concrete max_temperature is not an integer of at least 1.
    """
    _check_max_temperature(max_temperature)
    steps = jnp.minimum(_int32(temperature_step) + 1, _int32(max_temperature))
    return steps.astype(jnp.float32) / _int32(max_temperature).astype(jnp.float32)


def temperature_step(epoch: ArrayLike, epochs: int, max_temperature: int) -> jax.Array:
    """The temperature step k of an epoch.

    Each temperature is held for epochs // max_temperature epochs; where that leaves a
    rest, the last temperature, T = 1, is held for the rest too. (The authors' code lets
    the counter run on instead, past Phi = 1.)

    Args:
      epoch: epochs finished, int [...], from 0 to epochs - 1.
      epochs: epochs of the stage, at least max_temperature.
      max_temperature: tau_max, at least 1.

    Returns:
      k, int32 [...]: 0 at the first epoch, max_temperature - 1 at the last.

    Raises:
      ValueError: max_temperature is under 1 or over the epochs.
    """
    if not 1 <= max_temperature <= epochs or max_temperature != int(max_temperature):
        raise ValueError(
            f"max_temperature: expected an integer from 1 to epochs = {epochs}, got"
            f" {max_temperature}; each temperature needs at least one epoch"
        )
    return jnp.minimum(_int32(epoch) // (epochs // max_temperature), max_temperature - 1)


def mixing_weight(epoch: ArrayLike, ramp_epochs: int, until: int) -> jax.Array:
    """Continuation-KD's psi(i) = i / ramp_epochs for i < until, then 1; never over 1.

    The paper's are 150 and 150 of 200 epochs for images, and 40 and 21 of 30 for text.

    Args:
      epoch: i, epochs finished, int [...].
      ramp_epochs: epochs over which psi would rise from 0 to 1, at least 1.
      until: the epoch from which psi is 1.

    Returns:
      psi, float32 [...].
    """
    epoch = _int32(epoch)
    ramp = jnp.minimum(epoch.astype(jnp.float32) / ramp_epochs, 1)
    return jnp.where(epoch < until, ramp, 1)


def _check_max_temperature(max_temperature: ArrayLike) -> None:
    checks.check_values(
        "max_temperature",
        max_temperature,
        "an integer of at least 1",
        lambda values: (values >= 1) & (values == np.floor(values)),
    )


def _int32(value: ArrayLike) -> jax.Array:
    return jnp.asarray(value, jnp.int32)
