"""All fields of a run with their default values.

python -m experiments.train --config=configs/default.py --workdir=runs/default

The defaults are the paper's settings for images, on the digits of scikit-learn, which need no
download. The other files of this folder change some of the fields. The fields, their units and
ranges are described where they are used, and `python -m experiments.train --help` prints them.
--config.FIELD=VALUE sets a field on the command line, for example --config.student.epochs=80.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from akd_jax.runs import config as schema

_TEMPERATURES = 10  # The largest number of temperatures.


def get_config() -> ConfigDict:
    """Returns the default configuration."""
    return ConfigDict(schema.default().model_dump())


def set_optimizers(config: ConfigDict, **settings: Any) -> None:
    """Sets fields of the optimizers, such as learning_rate, for all networks and stages."""
    for name, section in config.items():
        if name == "optimizer":
            section.update(settings)
        elif isinstance(section, ConfigDict):
            set_optimizers(section, **settings)


def fit_annealing(config: ConfigDict) -> None:
    """Sets the annealing methods to the student's epochs: half of them anneal."""
    epochs = config.student.epochs
    config.annealing_kd.stage_1.epochs = epochs // 2
    config.annealing_kd.max_temperature = min(_TEMPERATURES, epochs // 2)
    config.continuation_kd.max_temperature = min(_TEMPERATURES, epochs)
    config.continuation_kd.psi_epochs = epochs
    config.continuation_kd.psi_until = epochs // 2
