"""All fields of a run with their default values, units and ranges.

python -m experiments.train --config=configs/default.py --workdir=runs/default

The defaults are the paper's settings for images, on the digits of scikit-learn, which need no
download. The other files of this folder change some of the fields. akd_jax/config.py checks the
values. --config.FIELD=VALUE sets a field on the command line, for example
--config.student.epochs=80.
"""

from typing import Any

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
    """Returns the fields of one optimizer and its learning-rate schedule."""
    return config_dict.create(
        name=name,  # 'sgd' or 'adamw'.
        learning_rate=learning_rate,  # Learning rate at the start of the schedule, above 0.
        momentum=momentum,  # Momentum of SGD, in [0, 1).
        weight_decay=weight_decay,  # Weight decay, 0 or more.
        clip_norm=clip_norm,  # Largest norm of the gradient; 0.0 turns clipping off.
        # 'constant', 'step' (a tenth after 1/2 and again after 3/4 of the epochs), 'linear' or
        # 'cosine' (both down to 0).
        schedule=schedule,
        # Whether the schedule restarts at each temperature of an annealed stage; the momentum is
        # kept.
        restart_each_temperature=restart_each_temperature,
    )


def set_optimizers(config: ConfigDict, **settings: Any) -> None:
    """Sets fields of `optimizer`, such as learning_rate, for all networks and stages."""
    for section in (
        config.teacher.optimizer,
        config.takd.assistant.optimizer,
        config.student.optimizer,
        config.annealing_kd.stage_1.optimizer,
        config.continuation_kd.optimizer,
    ):
        section.update(settings)


def get_config() -> ConfigDict:
    """Returns the default configuration."""
    return config_dict.create(
        method="annealing_kd",  # Name of the method, a key of akd_jax.methods.METHODS.
        seed=0,  # Seed of the student's initial parameters and of the order of its batches.
        dtype="float32",  # Floating-point type of the networks: 'float32' or 'bfloat16'.
        # Number of examples per update over all devices; a multiple of the number of devices.
        batch_size=128,
        # Number of parts into which each device splits its share of a batch. The gradients of the
        # parts are accumulated, which takes less memory.
        grad_accumulation_steps=1,
        skip_nonfinite=False,  # Whether to skip updates whose gradient is infinite or NaN.
        # Number of updates per call of the compiled program, 1 or more. More than 1 is faster if
        # an update takes well under a millisecond. Always 1 for texts, because their batches have
        # different lengths.
        steps_per_loop=1,
        # Number of epochs between two checkpoints. The last epoch of a stage is always saved.
        checkpoint_every=10,
        dataset=config_dict.create(
            name="digits",  # Name of the data set, a key of akd_jax.data.DATASETS.
            data_dir="",  # Folder of the files; empty for the default folder of the data set.
            # Number of training examples held out for validation; 0 for the data set's own
            # validation split.
            validation_size=297,
            train_size=0,  # Number of examples to train on; 0 for all.
            crop_padding=0,  # Padding in pixels before a random crop; 0 for no crop.
            flip=False,  # Whether images are flipped horizontally at random.
            max_length=128,  # Largest number of tokens of a text, 3 or more; the rest is cut off.
            bucketing=True,  # Whether each batch holds texts of similar length, to pad less.
            seed=0,  # Seed of the split and the augmentation, for the teacher and all students.
        ),
        teacher=config_dict.create(
            # Folder of a finished teacher, or Hugging Face folder of a fine-tuned one; empty to
            # train the teacher with the fields below.
            path="",
            model="plain_cnn:32 32 M 64 64 M FC64 FC",  # Architecture, as for the student.
            epochs=200,  # Number of training epochs, 1 or more.
            # Seed of the teacher's training. It is separate from the student's seed, so that
            # students of several seeds can share one teacher.
            seed=0,
            optimizer=optimizer(learning_rate=0.1),
            # Number of augmented views of each example whose teacher logits are computed once and
            # stored; the epochs use the views in turn. 0 to run the teacher in every step. Applies
            # to assistants as well.
            views=0,
            cache_dir="",  # Folder of the stored logits; empty for teacher_logits/ in the workdir.
        ),
        student=config_dict.create(
            # Architecture as NAME:ARGUMENT, with a key of akd_jax.models.MODELS, such as resnet:8;
            # huggingface:DIR for a pretrained network; huggingface:DIR,every=3 to keep every third
            # of its layers.
            model="plain_cnn:8 M 8 M FC",
            epochs=400,  # Number of epochs of all stages together, the same for every method.
            optimizer=optimizer(learning_rate=0.1),  # For scratch, kd, takd and stage II.
        ),
        kd=config_dict.create(
            temperature=4.0,  # Temperature of the softmax, above 0.
            # Weight of the distillation loss, in [0, 1]; the cross-entropy has weight 1 - weight.
            weight=0.9,
        ),
        takd=config_dict.create(
            # The assistant learns from the teacher by kd. Its fields are those of the teacher.
            assistant=config_dict.create(
                path="",
                model="plain_cnn:16 M 16 M FC",
                epochs=200,
                seed=0,
                optimizer=optimizer(learning_rate=0.1),
            ),
        ),
        annealing_kd=config_dict.create(
            # tau_max, the largest temperature of stage I, from 1 to the epochs of stage I.
            max_temperature=10,
            # Reduction of the squared error over classes: 'mean' (the authors' code) or 'sum'.
            class_reduction="mean",
            stage_1=config_dict.create(
                epochs=200,  # Fewer than student.epochs; stage II takes the remaining epochs.
                optimizer=optimizer(learning_rate=0.1),
            ),
        ),
        continuation_kd=config_dict.create(
            max_temperature=20,  # tau_max, the largest temperature, from 1 to student.epochs.
            # Margin of the squared error of the logits, 0 or more: errors below margin * Phi are
            # ignored.
            margin=0.0,
            # Schedule of the weight psi of the cross-entropy. 'ramp' raises it over the epochs.
            # 'step' uses the two stages and the fields of annealing_kd, and of the fields of this
            # section only the margin.
            psi="ramp",
            psi_epochs=300,  # Number of epochs over which the ramp rises from 0 to 1.
            # Epoch from which psi is 1, even if the ramp has not ended (paper: 150 of 200 epochs).
            psi_until=300,
            class_reduction="mean",  # As for annealing_kd.
            optimizer=optimizer(learning_rate=0.1),  # For psi='ramp', which has one stage.
        ),
    )
