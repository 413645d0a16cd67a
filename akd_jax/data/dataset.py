"""In-memory data sets, their splits and the normalisation of their inputs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import UNLABELLED, Task

Kind = Literal["text", "codes"]
UNLABELLED_SPLIT = "unlabelled"  # The split of examples without labels.
REWARD_SPLIT = "reward"  # Validation examples that do not choose the best student.


def test_split(group: str) -> str:
    """Returns the name of the test split of a group, such as a domain or a task."""
    return f"test_{group}"


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one split.

    Attributes:
      inputs: an array [N, ...] or a tree of such arrays. Texts are str [N, columns] until they are
        tokenised.
      labels: class indices, int32 [N]; regression targets, float32 [N]; or the tokens to predict,
        int32 [N, L].
      groups: the group of each example, such as its domain, str [N]; None if there are no groups.
    """

    inputs: Any
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """Returns the examples at `indices`, in that order."""
        inputs = jax.tree.map(lambda array: array[indices], self.inputs)
        groups = None if self.groups is None else self.groups[indices]
        return Examples(inputs, self.labels[indices], groups)


def concatenate(parts: Sequence[Examples]) -> Examples:
    """Returns the examples of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    inputs = jax.tree.map(lambda *arrays: np.concatenate(arrays), *(part.inputs for part in parts))
    groups = [part.groups for part in parts if part.groups is not None]
    return Examples(
        inputs,
        np.concatenate([part.labels for part in parts]),
        np.concatenate(groups) if len(groups) == len(parts) else None,
    )


@dataclasses.dataclass(frozen=True)
class Normalise:
    """Normalises images [..., channels] on the device: float32 (image - mean) / std.

    Attributes:
      mean: mean of each channel, in the units of the images (0 to 255 for bytes).
      std: standard deviation of each channel, in the same units.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the normalised images."""
        mean, std = jnp.float32(self.mean), jnp.float32(self.std)
        return (images.astype(jnp.float32) - mean) / std


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set with the splits that were published.

    Attributes:
      train: all training examples.
      test: the test split.
      task: what a model predicts.
      normalise: the normalisation of the inputs; None for texts.
      validation: the published validation split; None if there is none.
      others: additional test splits, by name.
      columns: the columns of a file that hold the texts to predict from.
      kinds: what each of these columns holds: 'text'; or 'codes', the discrete codes of speech,
        see `akd_jax.data.codes`. Empty if all columns hold texts.
      unlabelled: examples without labels; None if there are none.
      tokenizers: the files of a tokenizer for each column, which need not exist; networks that
        read each column in a different vocabulary use them.
    """

    train: Examples
    test: Examples
    task: Task
    normalise: Normalise | None
    validation: Examples | None = None
    others: Mapping[str, Examples] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    unlabelled: Examples | None = None
    tokenizers: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set with all splits that a run needs.

    Attributes:
      splits: 'train', 'validation', 'test' and the additional test splits, by name; and
        'unlabelled', if there are examples without labels, or training examples that are left out;
        and 'reward', if validation examples are set apart.
      task: what a model predicts.
      normalise: the normalisation of the inputs; None for texts, which each network tokenises
        with its own vocabulary.
      example: the inputs of one example, [1, ...]; they define the shapes.
      columns: the columns of a file that hold the texts to predict from.
      kinds: what each of these columns holds, as in `Source`.
      tokenizers: the files of a tokenizer for each column, as in `Source`.
      buckets: the padded lengths of batches of texts; empty for other inputs.
      label_shape: the shape of an example's label; (L,) for the tokens of a text to generate.
    """

    splits: Mapping[str, Examples]
    task: Task
    normalise: Normalise | None
    example: Any
    columns: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    tokenizers: tuple[Path, ...] = ()
    buckets: tuple[int, ...] = ()
    label_shape: tuple[int, ...] = ()

    @property
    def texts(self) -> bool:
        """Whether the inputs are texts."""
        return self.normalise is None

    @property
    def test_splits(self) -> list[str]:
        """The names of the test split and of the additional ones."""
        others = ("train", "validation", UNLABELLED_SPLIT, REWARD_SPLIT)
        return [name for name in self.splits if name not in others]

    @property
    def test_parts(self) -> dict[str, np.ndarray]:
        """The rows of the test split that make up the test split of each group, by its name.

        The split test_GROUP has the examples of the test split in this group. Other additional
        test splits have other examples, and are not parts of it.
        """
        groups = self.splits["test"].groups
        names = () if groups is None else dict.fromkeys(groups)
        rows = {test_split(name): np.flatnonzero(groups == name) for name in names}
        return {name: of_group for name, of_group in rows.items() if name in self.splits}


def _without_labels(examples: Examples) -> Examples:
    """Returns examples whose labels are missing."""
    labels = examples.labels
    missing = np.nan if np.issubdtype(labels.dtype, np.floating) else UNLABELLED
    return dataclasses.replace(examples, labels=np.full_like(labels, missing))


def split(examples: Examples, sizes: Mapping[str, int], seed: int) -> dict[str, Examples]:
    """Divides examples at random into splits of the given sizes.

    Args:
      examples: the examples to divide.
      sizes: maps the name of a split to its number of examples. Further examples are dropped.
      seed: seed of NumPy's RandomState, whose stream is the same in every NumPy release.
    """
    order = np.random.RandomState(seed).permutation(len(examples))
    parts = np.split(order, np.cumsum(list(sizes.values())))
    return {name: examples.take(part) for name, part in zip(sizes, parts, strict=False)}


def hold_out(
    source: Source,
    *,
    validation_size: int,
    train_size: int,
    seed: int,
    train_fraction: float = 1.0,
    reward_size: int = 0,
) -> Dataset:
    """Holds out a validation split from the training examples of a source.

    The training examples that `train_size` or `train_fraction` leaves out become unlabelled ones,
    before those of the source.

    Args:
      source: the published data set.
      validation_size: examples of the validation split; 0 uses the published validation split.
      train_size: examples of the training split; 0 uses all remaining examples.
      seed: seed of the random split.
      train_fraction: share of the remaining examples for the training split, in place of
        `train_size`; 1 uses all.
      reward_size: validation examples that are set apart, at random, as the split 'reward'.

    Raises:
      InputError: both `train_size` and `train_fraction` are given; the source has too few
        examples; `reward_size` leaves no validation example; `validation_size` is 0 and the source
        has no validation split; or `validation_size` is not 0 and the source has one.
    """
    if validation_size and source.validation is not None:
        raise InputError(
            "config.dataset.validation_size: expected 0, because the data set has a validation"
            f" split, got {validation_size}; set it to 0"
        )
    if not validation_size and source.validation is None:
        raise InputError(
            "config.dataset.validation_size: expected at least 1 example, because the data set has"
            " no validation split, got 0; set the number of training examples to hold out"
        )
    left, wanted = len(source.train) - validation_size, f"train_size={train_size}"
    if train_fraction < 1:
        if train_size:
            raise InputError(
                "config.dataset.train_fraction: expected 1 with train_size, got"
                f" {train_fraction:g} and {train_size} examples; set one of them"
            )
        train_size = max(1, round(train_fraction * left))
        wanted = f"train_fraction={train_fraction:g}"
    if left < 1 or train_size > left:
        raise InputError(
            f"config.dataset: expected at least {validation_size + max(train_size, 1)} training"
            f" examples for validation_size={validation_size} and {wanted}, got"
            f" {len(source.train)}; reduce one of the sizes"
        )
    # The validation split comes first, so that it does not depend on train_size.
    sizes = {"validation": validation_size, "train": train_size or left}
    sizes[UNLABELLED_SPLIT] = len(source.train) - sum(sizes.values())
    splits = {**split(source.train, sizes, seed), "test": source.test, **source.others}
    if source.validation is not None:
        splits["validation"] = source.validation
    if reward_size:
        size = len(splits["validation"])
        if reward_size >= size:
            raise InputError(
                f"config.dataset.reward_size: expected fewer than the {size} validation examples,"
                f" got {reward_size}; reduce it"
            )
        sizes = {REWARD_SPLIT: reward_size, "validation": size - reward_size}
        splits |= split(splits["validation"], sizes, seed)
    unlabelled = [_without_labels(splits.pop(UNLABELLED_SPLIT)), source.unlabelled]
    parts = [part for part in unlabelled if part is not None and len(part)]
    if parts:
        splits[UNLABELLED_SPLIT] = concatenate(parts)
    example = source.train.take(np.arange(1)).inputs
    return Dataset(
        splits,
        source.task,
        source.normalise,
        example,
        source.columns,
        source.kinds,
        source.tokenizers,
    )
