import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akd_jax import schedules


@pytest.mark.parametrize("max_temperature", [1, 2, 7, 10])
def test_temperature_and_annealing_factor_equal_the_paper(max_temperature):
    for k, temperature in enumerate(range(max_temperature, 0, -1)):
        phi = 1 - (temperature - 1) / max_temperature  # The paper's formula.
        assert schedules.temperature(k, max_temperature) == temperature
        np.testing.assert_allclose(
            schedules.annealing_factor(k, max_temperature), phi, rtol=1e-6, atol=0
        )
    assert schedules.annealing_factor(max_temperature - 1, max_temperature) == 1.0


def test_temperature_and_factor_are_constant_after_the_last_step():
    assert schedules.temperature(12, 10) == 1
    assert schedules.annealing_factor(12, 10) == 1.0


@pytest.mark.parametrize(
    ("epochs", "max_temperature", "expected"),
    [
        (6, 1, [0] * 6),
        (6, 2, [0, 0, 0, 1, 1, 1]),
        (7, 2, [0, 0, 0, 1, 1, 1, 1]),  # The last temperature lasts for the remainder.
        (14, 7, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
        (16, 7, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6]),
        (19, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
    ],
)
def test_temperature_step_by_hand(epochs, max_temperature, expected):
    steps = [int(schedules.temperature_step(e, epochs, max_temperature)) for e in range(epochs)]
    assert steps == expected


@given(st.integers(1, 25), st.integers(0, 200))
def test_temperature_step_visits_every_temperature_in_order(max_temperature, extra):
    epochs = max_temperature + extra
    # The array has the same length in all cases, so that it is compiled once.
    steps = schedules.temperature_step(np.arange(225), epochs, max_temperature)
    steps = np.asarray(steps)[:epochs]
    assert steps[0] == 0
    assert steps[-1] == max_temperature - 1
    assert set(np.diff(steps)) <= {0, 1}
    epochs_held = np.bincount(steps)
    assert (
        len(set(epochs_held[:-1])) <= 1
    )  # All temperatures except the last have the same number of epochs.
    assert epochs_held[-1] >= epochs_held.min()  # The last one also lasts for the remainder.


@pytest.mark.parametrize("max_temperature", [0, -1, 6])
def test_temperature_step_rejects_more_temperatures_than_epochs(max_temperature):
    with pytest.raises(ValueError, match="from 1 to epochs = 5, got"):
        schedules.temperature_step(0, 5, max_temperature)


def test_all_epochs_use_one_trace():
    traces = 0

    @jax.jit
    def phi(epoch):
        nonlocal traces
        traces += 1
        return schedules.annealing_factor(schedules.temperature_step(epoch, 20, 10), 10)

    factors = [float(phi(jnp.int32(epoch))) for epoch in range(20)]
    np.testing.assert_allclose(factors, np.repeat(np.arange(1, 11) / 10, 2), rtol=1e-6)
    assert traces == 1


def test_mixing_weight_equals_the_paper():
    # Images: min(i / 150, 1). Text: i / 40 up to i = 20, then 1.
    images = schedules.mixing_weight(np.arange(200), 150, 150)
    np.testing.assert_allclose(images, np.minimum(np.arange(200) / 150, 1), rtol=1e-6)
    text = schedules.mixing_weight(np.arange(30), 40, 21)
    expected = [i / 40 if i <= 20 else 1 for i in range(30)]
    np.testing.assert_allclose(text, expected, rtol=1e-6)
    assert text.dtype == np.float32


@pytest.mark.parametrize("function", [schedules.temperature, schedules.annealing_factor])
@pytest.mark.parametrize("max_temperature", [0, -3, 2.5, np.nan, np.array([2, 0])])
def test_max_temperature_must_be_a_positive_integer(function, max_temperature):
    with pytest.raises(ValueError, match="max_temperature: expected an integer of at least 1"):
        function(0, max_temperature)


def test_temperature_step_rejects_a_fractional_max_temperature():
    with pytest.raises(ValueError, match="max_temperature: expected an integer from 1 to epochs"):
        schedules.temperature_step(0, 5, 2.5)
