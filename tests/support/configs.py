"""Configurations of runs that take seconds; also a file for the flag --config."""

from ml_collections.config_dict import ConfigDict

from configs import digits


def small_config() -> ConfigDict:
    """The demo's configuration with small networks and 5 + 5 epochs of 5 steps."""
    config = digits.get_config()
    config.batch_size = 200
    config.checkpoint_every = 2
    config.teacher.model = "plain_cnn:8 M FC"
    config.teacher.epochs = 5
    config.student.model = "plain_cnn:4 M FC"
    config.student.epochs = 10
    config.annealing_kd.stage_1.epochs = 5
    config.annealing_kd.max_temperature = 2
    config.takd.assistant.model = "plain_cnn:6 M FC"
    config.takd.assistant.epochs = 2
    config.continuation_kd.max_temperature = 5
    config.continuation_kd.psi_epochs = 3
    return config


def get_config() -> ConfigDict:
    """The configuration that --config=tests/support/configs.py reads."""
    return small_config()
