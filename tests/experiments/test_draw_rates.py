import numpy as np
import pytest

from akd_jax.host.errors import InputError
from experiments.draw_rates import draw


def run(*rates):
    return [
        {"epoch": epoch, "train_rate_tweet": rate, "train_rate_tweet_scale": 0.0, "train_loss": 1.0}
        for epoch, rate in enumerate(rates, start=1)
    ]


def test_rates_are_means_over_the_seeds_in_the_epochs_that_have_them():
    pretraining = [{"epoch": 1, "train_loss": 2.0}]
    seeds = [
        [*pretraining, *({**x, "epoch": x["epoch"] + 1} for x in run(*rates))]
        for rates in ([0.5, 0.25], [0.75, 0.75])
    ]
    (axes,) = draw(seeds, "Rates").axes
    (line,) = axes.lines
    assert line.get_label() == "tweet"
    np.testing.assert_array_equal(line.get_xdata(), [2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [0.625, 0.5])
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).bounds == (2, 0.25, 1, 0.5)


def test_runs_of_other_epochs_or_teachers_are_refused():
    other = [{**x, "train_rate_movie": 0.5} for x in run(0.5)]
    for different in (run(0.5, 0.25), other):
        with pytest.raises(InputError, match="expected runs with the same epochs and teachers"):
            draw([run(0.5), different], "")


def test_runs_without_rates_are_refused():
    with pytest.raises(InputError, match="expected runs of rl_kd"):
        draw([[{"epoch": 1, "train_loss": 1.0}]], "")
