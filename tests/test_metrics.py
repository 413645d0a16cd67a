import jax.numpy as jnp
import numpy as np

from akd_jax import metrics
from akd_jax.types import WeightedSum


def test_means_weigh_each_step_by_its_weight():
    steps = [
        {"loss": WeightedSum(jnp.float32(6.0), jnp.float32(3.0))},
        {"loss": WeightedSum(jnp.float32(1.0), jnp.float32(1.0))},
    ]
    assert metrics.means(steps) == {"loss": 7 / 4}


def test_means_of_a_long_epoch_keep_their_precision():
    # In float32, 2**24 + 1 is 2**24: half of these would be lost.
    steps = [{"loss": WeightedSum(np.float32(2**24), np.float32(1.0))}]
    steps += [{"loss": WeightedSum(np.float32(1.0), np.float32(0.0))}] * 100
    assert metrics.means(steps)["loss"] == 2**24 + 100
