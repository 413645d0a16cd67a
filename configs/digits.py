"""The demo: 8x8 digits from scikit-learn, a plain CNN into a much smaller one, in seconds.

python -m experiments.train --config=configs/digits.py:annealing_kd --workdir=runs/digits
"""

from ml_collections.config_dict import ConfigDict

from configs import default


def get_config(method: str = "annealing_kd") -> ConfigDict:
    """Settings for `method`."""
    config = default.get_config()
    config.method = method
    config.batch_size = 40
    config.checkpoint_every = 20
    config.teacher.model = "plain_cnn:32 32 M 64 64 M FC64 FC"
    config.teacher.epochs = 20
    config.teacher.optimizer.learning_rate = 0.05
    config.student.model = "plain_cnn:4 M 4 M FC"
    config.student.epochs = 40
    config.student.optimizer.learning_rate = 0.05
    config.annealing_kd.stage_1.epochs = 20
    config.annealing_kd.stage_1.optimizer.learning_rate = 0.05
    return config
