"""The section `dataset` of the configuration, composed of the options of all kinds of data."""

from pydantic import Field

from akd_jax.data.augmentation import ImageOptions
from akd_jax.data.codes import SpeechOptions
from akd_jax.data.dataset import Kind
from akd_jax.data.readers.quality import PairOptions
from akd_jax.data.readers.streams import StreamOptions
from akd_jax.data.text import TextOptions
from akd_jax.host.settings import NonNegativeInt, PositiveFraction, Seed


class DatasetConfig(ImageOptions, TextOptions, SpeechOptions, PairOptions, StreamOptions):
    """The data set, its splits and its options."""

    name: str = Field(default="digits", description="Data set: a name in akd_jax.data.DATASETS.")
    data_dir: str = Field(
        default="",
        description="Folder of the data set; empty for the default folder of its reader.",
    )
    validation_size: NonNegativeInt = Field(
        default=297,
        description="Number of examples held out of the training split for validation; 0 uses the"
        " data set's own validation split.",
    )
    train_size: NonNegativeInt = Field(
        default=0,
        description="Number of examples to train on, after the validation split; 0 uses all. The"
        " others become unlabelled examples.",
    )
    train_fraction: PositiveFraction = Field(
        default=1.0,
        description="Share of the training examples to train on, after the validation split, above"
        " 0 and at most 1; below 1 only if train_size is 0.",
    )
    unlabelled_size: NonNegativeInt = Field(
        default=0,
        description="Number of unlabelled examples that the stages with a teacher train on, beside"
        " the labelled ones: first the training examples that train_size leaves out.",
    )
    reward_size: NonNegativeInt = Field(
        default=0,
        description="Number of validation examples that are set apart for the reward r3 of rl_kd;"
        " they do not choose the best student.",
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the validation split and of the augmentation, from 0 to 2^32 - 1;"
        " the same for the teacher and for all students.",
    )

    @property
    def max_lengths(self) -> dict[Kind, int]:
        """The largest number of tokens of each kind of column."""
        return {"text": self.max_length, "codes": self.max_codes}
