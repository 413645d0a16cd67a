"""Every field of a run, with its unit and range. Overlays such as digits.py change some.

akd_jax/config.py checks them. On the command line a field is set with
--config.FIELD=VALUE, such as --config.student.epochs=80.
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
    """The defaults: the paper's settings for images, on the data set that needs no download."""
    return config_dict.create(
        method="annealing_kd",  # A name in akd_jax.methods.METHODS.
        seed=0,  # Of the student: its initial parameters and the order of its batches.
        dtype="float32",  # What networks compute in: 'float32' or 'bfloat16'.
        batch_size=128,  # Examples of an update, over all devices; they must divide it.
        # Parts of each device's share of a batch; their gradients are added one after the other.
        grad_accumulation_steps=1,
        skip_nonfinite=False,  # Whether steps with infinite or undefined gradients are left out.
        # Updates in one compiled program; more than 1 where a step takes well under a millisecond.
        # Of texts always 1, since their batches have several lengths.
        steps_per_loop=1,
        checkpoint_every=10,  # Epochs; the last epoch of a stage is always saved.
        dataset=config_dict.create(
            name="digits",  # A name in akd_jax.data.DATASETS.
            data_dir="",  # Where it lies; empty: where its own tools put it.
            # Examples held out of the training split; 0: the data set's own validation split.
            validation_size=297,
            train_size=0,  # Examples that are left to train on; 0: all.
            crop_padding=0,  # Pixels around an image before a random crop; 0: no crop.
            flip=False,  # Whether views are mirrored at random.
            max_length=128,  # Tokens of a text, at least 3; the end of a longer one is cut off.
            bucketing=True,  # Whether batches hold texts of like lengths, filled up to the longest.
            seed=0,  # Of the split and of the views: the same for teacher and all students.
        ),
        teacher=config_dict.create(
            # Folder of a finished teacher, or of a fine-tuned one of Hugging Face; empty: one is
            # trained, as follows.
            path="",
            model="plain_cnn:32 32 M 64 64 M FC64 FC",  # As for the student.
            epochs=200,
            seed=0,  # Its own, so that students of several seeds can share it.
            optimizer=optimizer(learning_rate=0.1),
            # Views of each example whose logits are stored once, for all methods and seeds, to
            # be drawn in turn; 0: the teacher is run in every step. Assistants likewise.
            views=0,
            cache_dir="",  # Folder of the stored logits; empty: teacher_logits/ in the workdir.
        ),
        student=config_dict.create(
            # NAME:ARGUMENT, a name in akd_jax.models.MODELS, such as resnet:8; huggingface:DIR, a
            # pretrained folder; huggingface:DIR,every=3, with every third of its layers.
            model="plain_cnn:8 M 8 M FC",
            epochs=400,  # Over all stages together: every method makes as many updates.
            optimizer=optimizer(learning_rate=0.1),  # Of scratch, kd and takd, and of stage II.
        ),
        kd=config_dict.create(
            temperature=4.0,  # Over 0.
            weight=0.9,  # Of the soft-label loss, 0.0 to 1.0; the rest is the hard-label loss's.
        ),
        takd=config_dict.create(
            assistant=config_dict.create(  # Learns from the teacher by kd; as for the teacher.
                path="",
                model="plain_cnn:16 M 16 M FC",
                epochs=200,
                seed=0,
                optimizer=optimizer(learning_rate=0.1),
            ),
        ),
        annealing_kd=config_dict.create(
            max_temperature=10,  # tau_max: temperatures of stage I, from 1 to its epochs.
            class_reduction="mean",  # Of the squared error: 'mean' (the authors' code) or 'sum'.
            stage_1=config_dict.create(
                epochs=200,  # Fewer than the student's; stage II has the rest.
                optimizer=optimizer(learning_rate=0.1),
            ),
        ),
        continuation_kd=config_dict.create(
            max_temperature=20,  # tau_max, from 1 to the student's epochs.
            margin=0.0,  # At least 0, in squared logits: an error under margin * Phi is none.
            # The hard labels' weight: 'ramp'; or 'step', with annealing_kd's stages and settings
            # and none of these but the margin.
            psi="ramp",
            psi_epochs=300,  # Epochs over which the ramp would rise from 0 to 1,
            psi_until=300,  # and the epoch from which it is 1 anyway. (Paper: 150 of 200.)
            class_reduction="mean",  # As for annealing_kd.
            optimizer=optimizer(learning_rate=0.1),  # Of the ramp's one stage.
        ),
    )
