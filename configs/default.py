"""Every field of a run, with its unit and range. Overlays such as digits.py change some.

akd_jax/config.py checks them. On the command line a field is set with
--config.FIELD=VALUE, such as --config.student.epochs=80.
"""

from ml_collections import config_dict
from ml_collections.config_dict import ConfigDict


def optimizer(
    *,
    learning_rate: float,
    name: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    clip_norm: float = 0.0,
    schedule: str = "step",
    restart_each_temperature: bool = False,
) -> ConfigDict:
    """A section that describes one optimizer and its learning-rate schedule."""
    return config_dict.create(
        name=name,  # 'sgd' or 'adamw'.
        learning_rate=learning_rate,  # Over 0; at the schedule's start.
        momentum=momentum,  # From 0 to under 1; of sgd.
        weight_decay=weight_decay,  # At least 0.
        clip_norm=clip_norm,  # Largest norm of the gradient; 0.0 does not clip.
        schedule=schedule,  # 'constant', 'step' (x 0.1 at 1/2 and 3/4), 'linear' or 'cosine'.
        restart_each_temperature=restart_each_temperature,  # The schedule, not the momentum.
    )


def get_config() -> ConfigDict:
    """The defaults: the paper's settings for images, on the data set that needs no download."""
    return config_dict.create(
        method="annealing_kd",  # 'scratch', 'kd' or 'annealing_kd'.
        seed=0,  # Of the student: its initial parameters and the order of its batches.
        batch_size=128,  # Examples of an update, over all devices; they must divide it.
        checkpoint_every=10,  # Epochs; the last epoch of a stage is always saved.
        dataset=config_dict.create(
            name="digits",  # A name in akd_jax.data.DATASETS.
        ),
        teacher=config_dict.create(
            path="",  # Folder of a finished teacher; empty: one is trained, as follows.
            model="plain_cnn:32 32 M 64 64 M FC64 FC",  # As for the student.
            epochs=200,
            seed=0,  # Its own, so that students of several seeds can share it.
            optimizer=optimizer(learning_rate=0.1),
        ),
        student=config_dict.create(
            model="plain_cnn:8 M 8 M FC",  # NAME:ARGUMENT, a name in akd_jax.models.MODELS.
            epochs=400,  # Over all stages together: every method makes as many updates.
            optimizer=optimizer(learning_rate=0.1),  # Of one-stage methods, and of stage II.
        ),
        kd=config_dict.create(
            temperature=4.0,  # Over 0.
            weight=0.9,  # Of the soft-label loss, 0.0 to 1.0; the rest is the hard-label loss's.
        ),
        annealing_kd=config_dict.create(
            max_temperature=10,  # tau_max: temperatures of stage I, from 1 to its epochs.
            class_reduction="mean",  # Of the squared error: 'mean' (the authors' code) or 'sum'.
            stage_1=config_dict.create(
                epochs=200,  # Fewer than the student's; stage II has the rest.
                optimizer=optimizer(learning_rate=0.1),
            ),
        ),
    )
