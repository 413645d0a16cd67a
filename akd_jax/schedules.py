"""Schedules of the temperature, the annealing factor and the weight of the hard labels.

Annealing-KD (Jafari et al., EACL 2021, https://arxiv.org/abs/2104.07163) lowers T from
tau_max to 1. The temperature step k = 0 .. tau_max - 1 counts the temperatures:

    T = tau_max - k        Phi(T) = 1 - (T - 1) / tau_max = (k + 1) / tau_max

All functions are traceable in their first argument, so that one compiled step serves all
temperatures. `max_temperature` is tau_max in the paper.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from akd_jax import checks


def temperature(temperature_step: ArrayLike, max_temperature: ArrayLike) -> jax.Array:
    """Returns the temperature T = max(max_temperature - k, 1).

    Args:
      temperature_step: k, int [...].
      max_temperature: tau_max, an integer of at least 1.

    Returns:
      T, int32 [...].

    Raises:
      ValueError: a concrete max_temperature is not an integer of at least 1.
    """
    _check_max_temperature(max_temperature)
    return jnp.maximum(_int32(max_temperature) - _int32(temperature_step), 1)


def annealing_factor(temperature_step: ArrayLike, max_temperature: ArrayLike) -> jax.Array:
    """Returns the annealing factor Phi = min((k + 1) / max_temperature, 1).

    Args:
      temperature_step: k, int [...].
      max_temperature: tau_max, an integer of at least 1.

    Returns:
      Phi, float32 [...], from 1 / max_temperature at k = 0 to exactly 1 at the last step.

    Raises:
      ValueError: a concrete max_temperature is not an integer of at least 1.
    """
    _check_max_temperature(max_temperature)
    steps = jnp.minimum(_int32(temperature_step) + 1, _int32(max_temperature))
    return steps.astype(jnp.float32) / _int32(max_temperature).astype(jnp.float32)


def temperature_step(epoch: ArrayLike, epochs: int, max_temperature: int) -> jax.Array:
    """Returns the temperature step k of an epoch.

    Each temperature lasts for epochs // max_temperature epochs. The last one, T = 1, also lasts
    for the remainder of that division. (In the authors' code k continues to grow in the
    remainder, so that Phi exceeds 1.)

    Args:
      epoch: number of finished epochs, int [...], from 0 to epochs - 1.
      epochs: number of epochs of the stage, at least max_temperature.
      max_temperature: tau_max, an integer of at least 1.

    Returns:
      k, int32 [...]: 0 at the first epoch, max_temperature - 1 at the last.

    Raises:
      ValueError: max_temperature is not an integer from 1 to epochs.
    """
    if not 1 <= max_temperature <= epochs or max_temperature != int(max_temperature):
        raise ValueError(
            f"max_temperature: expected an integer from 1 to epochs = {epochs}, got"
            f" {max_temperature}; each temperature needs at least one epoch"
        )
    return jnp.minimum(_int32(epoch) // (epochs // max_temperature), max_temperature - 1)


def mixing_weight(epoch: ArrayLike, ramp_epochs: int, until: int) -> jax.Array:
    """Returns Continuation-KD's psi(i) = min(i / ramp_epochs, 1) for i < until, and 1 from then on.

    The paper uses ramp_epochs = until = 150 of 200 epochs for images, and ramp_epochs = 40 and
    until = 21 of 30 epochs for text (Jafari et al., Findings of EMNLP 2022,
    https://arxiv.org/abs/2212.05998).

    Args:
      epoch: i, the number of finished epochs, int [...].
      ramp_epochs: number of epochs in which psi rises from 0 to 1, at least 1.
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
