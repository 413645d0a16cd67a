"""Demo on the 8x8 digits of scikit-learn: a plain CNN teaches a much smaller one in seconds.

python -m experiments.train --config=configs/digits.py:annealing_kd --workdir=runs/digits

The learning rates were chosen by validation accuracy on seeds 10 to 13: a common one for scratch,
kd, takd and stage II from 0.01 to 0.1, and the others from 0.005 to 0.02.
"""

from ml_collections.config_dict import ConfigDict

from configs import annealing_rows, default


def get_config(method: str = "annealing_kd") -> ConfigDict:
    """Returns the settings for a method."""
    config = default.get_config()
    config.method = method
    config.batch_size = 40
    config.checkpoint_every = 60
    config.teacher.model = "plain_cnn:32 32 M 64 64 M FC64 FC"
    config.teacher.epochs = 20
    config.teacher.optimizer.learning_rate = 0.05
    config.student.model = "plain_cnn:4 M 4 M FC"
    config.student.epochs = 60
    config.student.optimizer.learning_rate = 0.05
    config.takd.assistant.model = "plain_cnn:8 M 8 M FC"
    config.takd.assistant.epochs = 30
    config.takd.assistant.optimizer.learning_rate = 0.05
    config.continuation_kd.max_temperature = 20
    config.continuation_kd.psi_epochs = 45
    config.continuation_kd.psi_until = 45
    config.continuation_kd.optimizer.learning_rate = 0.01
    config.annealing_kd.stage_1.epochs = 30
    # A fifth of the other learning rates: logits are larger targets than labels. At 0.05, some
    # students do not recover from stage I.
    config.annealing_kd.stage_1.optimizer.learning_rate = 0.01
    annealing_rows.set_rows(
        config, rates=(0.005, 0.2), stage_1_rates=(0.001, 0.05), temperatures=(2, 5, 10, 18)
    )
    return config
