r"""Names in 94 languages: n-grams with many embeddings teach n-grams with few, in seconds.

python -m experiments.compare --config=configs/language_names.py --seeds=2 \
    --methods=scratch,kd,takd,annealing_kd,continuation_kd --workdir=runs/language_names

The package Babel contains the names (pip install babel).

The settings were chosen by validation accuracy with seed 10, for scratch and kd on the same grid:
learning rates 0.01 and 0.03, weight decays 0, 1e-3, 3e-3 and 1e-2, and for kd the temperatures 1
and 2 (4 was worse). The best students of this grid, in percent:

| weight decay | scratch |   kd |                                          |
| ------------ | ------: | ---: | ---------------------------------------- |
| 3e-3 or 1e-2 |    71.0 | 71.8 | rate 0.03; kd: decay 3e-3, temperature 1 |
| 0            |    66.9 | 70.2 | rate 0.03; kd: temperature 2             |

The students overfit 20,000 names. Weight decay helps against it more than distillation does, and
leaves less to gain. --config=configs/language_names.py:no_decay trains students without decay.
Fewer settings were tried for stage I of annealing_kd and for continuation_kd, and none for takd.
"""

from ml_collections.config_dict import ConfigDict

from configs import annealing_rows, default


def get_config(argument: str = "annealing_kd") -> ConfigDict:
    """Returns the settings for a method.

    Args:
      argument: METHOD, METHOD,no_decay or no_decay.
    """
    method, _, variant = argument.rpartition(",")
    if variant != "no_decay":
        method, variant = argument, ""
    config = default.get_config()
    config.method = method or "annealing_kd"
    config.batch_size = 256
    config.checkpoint_every = 20
    config.dataset.name = "language_names"
    config.dataset.validation_size = 0  # The data set has its own validation split.
    config.dataset.train_size = 20000  # Of 62,302, to be fast.
    config.dataset.max_length = 32  # 30 characters, which 97 % of the names have at most.
    config.dataset.bucketing = False  # A single length, so that each step is compiled once.
    config.teacher.model = "ngrams:32768x128"
    config.teacher.epochs = 10
    config.teacher.views = 1  # Without augmentation, all views are equal.
    config.takd.assistant.model = "ngrams:8192x16,64"
    config.takd.assistant.epochs = 20
    config.student.model = "ngrams:4096x8,32"
    config.student.epochs = 20
    config.kd.temperature = 2.0 if variant else 1.0
    config.annealing_kd.stage_1.epochs = 14
    config.continuation_kd.max_temperature = 10
    config.continuation_kd.psi_epochs = 15
    config.continuation_kd.psi_until = 15
    decay = 0.0 if variant else 3e-3
    default.set_optimizers(
        config, name="adam", learning_rate=0.03, weight_decay=decay, schedule="cosine"
    )
    # With weight decay, its outputs on the training examples are softer, and better targets.
    config.teacher.optimizer.update(learning_rate=0.01, weight_decay=3e-3)
    # Squared errors have small gradients, so that they need less decay or a smaller rate: with the
    # rate 0.03 and the decay 3e-3, continuation_kd ends at chance.
    config.annealing_kd.stage_1.optimizer.weight_decay = decay / 10
    config.continuation_kd.optimizer.learning_rate = 0.01
    annealing_rows.set_rows(
        config,
        rates=(0.003, 0.1),
        stage_1_rates=(0.003, 0.1),
        temperatures=(2, 3, 6),
        weight_decays=None if variant else (1e-4, 1e-2),
    )
    return config
