import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akd_jax import schedules
from akd_jax.types import Clock


def at_temperature_steps(schedule, steps):
    return [float(schedule(Clock.at(temperature_step=step))) for step in steps]


def at_epochs(schedule, epochs):
    return [float(schedule(Clock.at(epoch=epoch))) for epoch in epochs]


def at_steps(schedule, steps):
    return [float(schedule(Clock.at(step=step))) for step in steps]


@pytest.mark.parametrize("max_temperature", [1, 2, 7, 10])
def test_temperature_and_annealing_factor_equal_the_paper(max_temperature):
    temperature = schedules.temperature(max_temperature)
    factor = schedules.annealing_factor(max_temperature)
    for k, expected in enumerate(range(max_temperature, 0, -1)):
        phi = 1 - (expected - 1) / max_temperature  # The paper's formula.
        clock = Clock.at(temperature_step=k)
        assert temperature(clock) == expected
        np.testing.assert_allclose(factor(clock), phi, rtol=1e-6, atol=0)
    assert factor(Clock.at(temperature_step=max_temperature - 1)) == 1.0


def test_temperature_and_factor_are_constant_after_the_last_step():
    assert at_temperature_steps(schedules.temperature(10), [12]) == [1]
    assert at_temperature_steps(schedules.annealing_factor(10), [12]) == [1.0]


def test_temperature_and_factor_ignore_epochs_and_steps():
    clock = Clock.at(temperature_step=1, epoch=7, step=99)
    assert schedules.temperature(4)(clock) == 3
    assert schedules.annealing_factor(4)(clock) == 0.5


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
    step = schedules.temperature_step(epochs, max_temperature)
    assert [step(epoch) for epoch in range(epochs)] == expected


@given(st.integers(1, 25), st.integers(0, 200))
def test_temperature_step_visits_every_temperature_in_order(max_temperature, extra):
    epochs = max_temperature + extra
    step = schedules.temperature_step(epochs, max_temperature)
    steps = np.array([step(epoch) for epoch in range(epochs)])
    assert steps[0] == 0
    assert steps[-1] == max_temperature - 1
    assert set(np.diff(steps)) <= {0, 1}
    epochs_held = np.bincount(steps)
    # All temperatures except the last have the same number of epochs.
    assert len(set(epochs_held[:-1])) <= 1
    assert epochs_held[-1] >= epochs_held.min()  # The last one also lasts for the remainder.


def test_temperature_step_rejects_more_temperatures_than_epochs():
    with pytest.raises(ValueError, match="an integer from 1 to epochs = 5, got 6; each temp"):
        schedules.temperature_step(5, 6)


@pytest.mark.parametrize(
    "function",
    [schedules.temperature, schedules.annealing_factor, lambda m: schedules.temperature_step(5, m)],
)
@pytest.mark.parametrize("max_temperature", [0, -3, 2.5, np.nan])
def test_max_temperature_must_be_a_positive_integer(function, max_temperature):
    with pytest.raises(ValueError, match="max_temperature: expected an integer of at least 1"):
        function(max_temperature)


def test_mixing_weight_equals_the_paper():
    # Images: min(i / 150, 1). Text: i / 40 up to i = 20, then 1.
    images = at_epochs(schedules.mixing_weight(150, 150), range(200))
    np.testing.assert_allclose(images, np.minimum(np.arange(200) / 150, 1), rtol=1e-6)
    text = at_epochs(schedules.mixing_weight(40, 21), range(30))
    expected = [i / 40 if i <= 20 else 1 for i in range(30)]
    np.testing.assert_allclose(text, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (schedules.linear, [5, 4, 3, 2, 1, 1, 1]),
        (schedules.cosine, [5, 3 + np.sqrt(2), 3, 3 - np.sqrt(2), 1, 1, 1]),
        (schedules.exponential, [5, 5**0.75, 5**0.5, 5**0.25, 1, 1, 1]),
    ],
)
def test_transitions_from_5_to_1_by_hand(function, expected):
    by_epoch, by_step = function(5.0, 1.0, epochs=4), function(5.0, 1.0, steps=4)
    np.testing.assert_allclose(at_epochs(by_epoch, range(7)), expected, rtol=1e-6)
    np.testing.assert_allclose(at_steps(by_step, range(7)), expected, rtol=1e-6)
    # Within an epoch, a transition over epochs does not change.
    assert by_epoch(Clock.at(epoch=2, step=250)) == np.float32(expected[2])
    assert by_step(Clock.at(epoch=1, step=2)) == np.float32(expected[2])


def test_transition_may_rise_and_have_a_length_of_1():
    assert at_epochs(schedules.linear(-1.0, 1.0, epochs=2), range(3)) == [-1, 0, 1]
    assert at_steps(schedules.linear(3.0, 7.0, steps=1), range(3)) == [3, 7, 7]


def test_warm_up_and_constant_by_hand():
    assert at_steps(schedules.warm_up(8.0, steps=4), range(6)) == [0, 2, 4, 6, 8, 8]
    assert at_epochs(schedules.warm_up(1.0, epochs=2), range(4)) == [0, 0.5, 1, 1]
    assert at_epochs(schedules.constant(0.25), [0, 100]) == [0.25, 0.25]


@pytest.mark.parametrize("function", [schedules.linear, schedules.cosine, schedules.exponential])
@pytest.mark.parametrize(
    "length", [{}, {"epochs": 3, "steps": 3}, {"epochs": 0}, {"steps": 0}, {"steps": -2}]
)
def test_transition_needs_one_positive_length(function, length):
    with pytest.raises(
        ValueError, match="expected either epochs or steps, at least 1, got epochs="
    ):
        function(2.0, 1.0, **length)
    with pytest.raises(ValueError, match="; give the length of the transition"):
        schedules.warm_up(1.0, **length)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (-1.0, -2.0)])
def test_exponential_cannot_reach_0(start, end):
    message = f"start, end: expected values greater than 0, got {start} and {end}; use linear or"
    with pytest.raises(ValueError, match=message):
        schedules.exponential(start, end, steps=2)


def test_optax_schedule_is_a_function_of_the_update_number():
    rate = optax.warmup_cosine_decay_schedule(0.0, 2.0, warmup_steps=3, decay_steps=9)
    schedule = schedules.from_optax(rate)
    with jax.numpy_dtype_promotion("standard"):
        expected = [float(rate(step)) for step in range(12)]
    np.testing.assert_allclose(at_steps(schedule, range(12)), expected, rtol=1e-6)
    assert len(set(expected)) > 8
    assert schedule(Clock.at(epoch=5)) == expected[0]


def test_numbers_functions_and_schedules_become_schedules():
    schedule = schedules.temperature(3)
    assert schedules.as_schedule(schedule) is schedule
    assert at_steps(schedules.as_schedule(0.5), [0, 7]) == [0.5, 0.5]
    assert at_steps(schedules.as_schedule(lambda clock: 2 * clock.step), [0, 7]) == [0, 14]


SCHEDULES = {
    "constant": schedules.constant(2.0),
    "temperature": schedules.temperature(3),
    "annealing_factor": schedules.annealing_factor(3),
    "mixing_weight": schedules.mixing_weight(4, 3),
    "linear": schedules.linear(2.0, 0.0, steps=4),
    "cosine": schedules.cosine(2.0, 0.0, epochs=4),
    "exponential": schedules.exponential(2.0, 0.5, steps=4),
    "warm_up": schedules.warm_up(2.0, epochs=3),
    "from_optax": schedules.from_optax(optax.linear_schedule(1.0, 0.0, 4)),
}


def test_one_traced_program_serves_all_times():
    traces = 0

    @jax.jit
    def evaluate(clock):
        nonlocal traces
        traces += 1
        return {name: schedule(clock) for name, schedule in SCHEDULES.items()}

    clocks = [Clock.at(temperature_step=t // 2, epoch=t, step=2 * t) for t in range(5)]
    results = [evaluate(clock) for clock in clocks]
    assert traces == 1
    for clock, result in zip(clocks, results, strict=True):
        for name, schedule in SCHEDULES.items():
            np.testing.assert_allclose(result[name], schedule(clock), rtol=1e-6, err_msg=name)
            assert result[name].dtype == jnp.float32, name
            assert result[name].shape == (), name
    changing = {name for name in SCHEDULES if len({float(r[name]) for r in results}) > 1}
    assert changing == SCHEDULES.keys() - {"constant"}


@pytest.mark.parametrize("name", ["temperature", "annealing_factor", "mixing_weight"])
def test_values_stay_in_the_allowed_range(name):
    schedule = SCHEDULES[name]
    values = [float(schedule(Clock.at(temperature_step=t, epoch=t))) for t in range(6)]
    assert schedule.minimum <= min(values)
    assert max(values) == schedule.maximum


def test_negative_values_are_not_allowed_by_default():
    weight = schedules.as_schedule(lambda clock: -1.0)
    assert weight(Clock.at()) < weight.minimum == schedules.linear(1.0, -1.0, steps=2).minimum


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine, schedules.exponential])
def test_smooth_schedules_change_with_every_update_of_their_epochs(schedule):
    smooth = schedule(1.0, 0.005, epochs=3, smooth=True)
    by_steps = schedule(1.0, 0.005, steps=21)
    values = [float(smooth(Clock.at(step=step, steps_per_epoch=7))) for step in range(25)]
    assert values == at_steps(by_steps, range(25))
    assert values[0] == 1.0
    assert values[21] == values[24] == pytest.approx(0.005, rel=1e-6)
    assert len(set(values)) == 22
    # Without it, the value changes once per epoch.
    assert at_epochs(schedule(1.0, 0.005, epochs=3), [0, 1]) == [values[0], values[7]]
