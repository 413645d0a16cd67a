"""The training examples of a stage."""

import dataclasses
from collections.abc import Iterable

import jax
import numpy as np

from akd_jax import data
from akd_jax.data import Examples
from akd_jax.data.dataset import UNLABELLED_SPLIT, concatenate
from akd_jax.data.text import Vocabulary
from akd_jax.host.errors import InputError
from akd_jax.models.network import Network
from akd_jax.runs.setup import Plan
from akd_jax.training.stage import Stage, StageContext


def stage_examples(plan: Plan, stage: Stage, context: StageContext) -> Examples:
    """Returns the training examples of a stage.

    They are those of its data function or, without one, the training split; and if the stage has
    a teacher, also the first `config.dataset.unlabelled_size` of the unlabelled examples.

    Raises:
      InputError: there are none, or their inputs differ in shape or type from the data set's.
    """
    if stage.data is None:
        train, size = plan.dataset.splits["train"], plan.settings.unlabelled_examples(stage)
        if not size:
            return train
        unlabelled = plan.dataset.splits[UNLABELLED_SPLIT]
        return concatenate([train, unlabelled.take(np.arange(size))])
    examples = stage.data(context)
    if not len(examples):
        raise InputError(
            f"stage {stage.name}: expected training examples from its data function, got none;"
            " return at least one"
        )
    expected, actual = (
        jax.tree.map(lambda x: f"{x.dtype}{list(x.shape[1:])}", inputs)
        for inputs in (plan.dataset.example, examples.inputs)
    )
    if actual != expected:
        raise InputError(
            f"stage {stage.name}: expected inputs like those of the data set, {expected}, from its"
            f" data function, got {actual}; build them from `context.dataset`"
        )
    return examples


def planned_updates(plan: Plan) -> int:
    """Returns the number of updates of the student.

    A stage with a data function counts as if it trained on its share of the training split.
    """
    # The data set of a plan tokenises all its texts when a split is accessed, so read another one.
    labelled = len(data.load(plan.settings.dataset).splits["train"])
    batch_size = plan.settings.batch_size
    return sum(
        stage.epochs
        * -(
            -(round(stage.share * labelled) + plan.settings.unlabelled_examples(stage))
            // batch_size
        )
        for stage in plan.method.stages
    )


def keep_inputs(
    examples: Examples, networks: Iterable[Network], vocabularies: Iterable[Vocabulary]
) -> Examples:
    """Returns examples of texts with only the tokens that are read, so that padding is short.

    Args:
      examples: the examples; those with other inputs than texts stay as they are.
      networks: the networks that read them.
      vocabularies: further tokenisations that are read.
    """
    keys = {x.preprocess.key for x in networks if isinstance(x.preprocess, Vocabulary)}
    if not keys:
        return examples
    keys |= {vocabulary.key for vocabulary in vocabularies}
    inputs = {key: tokens for key, tokens in examples.inputs.items() if key in keys}
    return dataclasses.replace(examples, inputs=inputs)
