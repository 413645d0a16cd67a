"""A small data set with two groups of examples, and teachers with names that learn from them."""

import dataclasses

import numpy as np

from akd_jax import data
from configs import named_teachers


def use_grouped_digits(monkeypatch, config):
    """Makes the data set 'grouped': 200 training digits in the groups 'even' and 'odd'.

    The groups are the parity of an example's index among 240 digits, of which 40 are for
    validation.
    """
    source = data.DATASETS["digits"](None)
    train = source.train.take(np.arange(240))
    groups = np.array(["even", "odd"], object)[np.arange(240) % 2]
    small = dataclasses.replace(source, train=dataclasses.replace(train, groups=groups))
    monkeypatch.setitem(data.DATASETS, "grouped", lambda data_dir: small)
    config.dataset.name = "grouped"
    config.dataset.validation_size = 40
    config.dataset.crop_padding = 0


def teacher(config, width, **fields):
    """The settings of a teacher with one hidden layer, and with the optimizer of `teacher`."""
    optimizer = config.teacher.optimizer.to_dict()
    return named_teachers.teacher(
        f"featured:{width}", **{"epochs": 1, "optimizer": optimizer, **fields}
    )
