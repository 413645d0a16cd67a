import numpy as np
import pytest

from akd_jax.host.errors import InputError
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Method, Stage
from akd_jax.types import WeightedSum

OPTIMIZER = OptimizerConfig(learning_rate=0.1)


def no_loss(student, teachers, batch, temperature_step):
    raise AssertionError("this loss must not be called")


def test_merged_weighted_sums_give_the_overall_mean():
    rng = np.random.default_rng(0)
    values, weights = np.float32(rng.normal(size=10)), np.float32(rng.uniform(size=10))
    parts = [WeightedSum.of(values[a:b], weights[a:b]) for a, b in ((0, 3), (3, 4), (4, 10))]
    merged = parts[0] + parts[1] + parts[2]
    np.testing.assert_allclose(merged.mean(), np.average(values, weights=weights), rtol=1e-5)


@pytest.mark.parametrize("max_temperature", [0, 6])
def test_stage_rejects_a_max_temperature_out_of_range(max_temperature):
    with pytest.raises(InputError, match=f"from 1 to its 5 epochs, got {max_temperature}"):
        Stage("s", 5, no_loss, OPTIMIZER, max_temperature=max_temperature)


def test_stage_rejects_zero_epochs():
    with pytest.raises(InputError, match="at least 1 epoch, got 0"):
        Stage("s", 0, no_loss, OPTIMIZER)


def test_method_collects_teachers_and_epochs_of_its_stages():
    stages = (
        Stage("a", 2, no_loss, OPTIMIZER, teachers=("big", "small")),
        Stage("b", 3, no_loss, OPTIMIZER, start="a", teachers=("small",)),
    )
    method = Method("m", stages)
    assert method.teachers == ("big", "small")
    assert method.epochs == 5
