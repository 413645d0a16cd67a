r"""KD from teachers that a policy chooses for each example (RL-KD).

config.rl_kd.teachers maps the name of each teacher to its settings. A configuration's file adds
the teachers; their fields can be changed on the command line, such as
--config.rl_kd.teachers.NAME.path=DIR.

The stages are

  uniform  the student learns from all teachers; left out if rl_kd.uniform_epochs is 0
  policy   the policy learns from a fixed student; left out if rl_kd.policy_epochs is 0
  rl_kd    both learn

With another rl_kd.choice than 'reinforced', no policy learns: the comparisons of RL-KD.

After Yuan et al., "Reinforced Multi-Teacher Selection for Knowledge Distillation", AAAI 2021,
https://arxiv.org/abs/2012.06048; `losses.ReinforcedSelection` says what was chosen here.
"""

from typing import Any, Literal

from pydantic import Field

from akd_jax import losses
from akd_jax.data import text
from akd_jax.data.dataset import REWARD_SPLIT
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Fraction, NonNegative, NonNegativeInt, Positive, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.named_teachers import NamedTeacher, teacher_recipes, teacher_weights
from akd_jax.training.frozen import EVERYTHING
from akd_jax.training.method import Frozen, Method, Recipe
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage, StageContext
from akd_jax.types import Task, Variables

_SENTENCE = "sentence_encoder"


class Config(Section):
    """Settings of RL-KD and of its comparisons."""

    teachers: dict[str, NamedTeacher] = Field(
        default={}, description="The teachers by name, at least two."
    )
    folds: NonNegativeInt = Field(
        default=0,
        description="Number of folds of the training examples; each example is then taught by"
        " teachers that have not seen it. 0 trains each teacher on all its examples.",
    )
    choice: Literal["reinforced", "weighted", "random", "random_teacher", "lowest_error"] = Field(
        default="reinforced",
        description="How the teachers of an example are chosen: 'reinforced', by a policy that"
        " learns; 'weighted', all by their weights; 'random', each with its weight as probability;"
        " 'random_teacher', one for each update; or 'lowest_error', the one with the lowest"
        " cross-entropy for the label.",
    )
    weights: dict[str, NonNegative] = Field(
        default={},
        description="Weight of each teacher by name, for 'weighted' and 'random'; empty for 1.",
    )
    temperature: Positive = Field(default=1.0, description="Softmax temperature T, greater than 0.")
    weight: Fraction = Field(
        default=0.7,
        description="Weight of the soft-label loss, from 0 to 1; the hard-label loss has the"
        " weight 1 - weight.",
    )
    fallback: Literal["all", "none"] = Field(
        default="all",
        description="Teachers of an example for which none is chosen: 'all', or 'none'.",
    )
    sentence_encoder: str = Field(
        default="",
        description="Frozen text encoder whose sentence vectors the policy reads, sentence:DIR with"
        " a Hugging Face folder; empty to leave them out.",
    )
    label_errors: bool = Field(
        default=True,
        description="Whether the policy reads the teachers' cross-entropies for the label.",
    )
    reward: Literal["r1", "r2", "r3"] = Field(
        default="r2",
        description="Reward of the policy: 'r1', minus the hard-label loss; 'r2', minus both"
        " losses; or 'r3', a mean of r2 and of the accuracy on dataset.reward_size examples.",
    )
    gamma: Fraction = Field(
        default=0.5, description="Weight of r2 in the reward r3; the accuracy has 1 - gamma."
    )
    before_update: bool = Field(
        default=False,
        description="Whether the reward is that of the student before its update, which is cheaper;"
        " not with r3.",
    )
    baseline: Literal["batch", "running", "none"] = Field(
        default="batch",
        description="Baseline of the reward: 'batch', the mean of the batch, not with r3;"
        " 'running', a running mean; or 'none', 0.",
    )
    momentum: Fraction = Field(
        default=0.9, description="Weight of the earlier batches in the running mean."
    )
    uniform_epochs: NonNegativeInt = Field(
        default=0,
        description="Number of the student's first epochs in which it learns from all teachers.",
    )
    policy_epochs: NonNegativeInt = Field(
        default=0,
        description="Number of epochs after these in which only the policy learns.",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(
            name="adam", learning_rate=0.005, weight_decay=0.0, schedule="constant"
        ),
        description="Optimizer of the policy.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns the stages of RL-KD, or one stage of a comparison without a policy that learns.

    Raises:
      InputError: the task is a regression, the settings do not fit each other, or there are fewer
        than two teachers.
    """
    settings = config.section(Config)
    _check(config, settings, task)
    recipes = teacher_recipes("rl_kd.teachers", settings.teachers, settings.folds)
    student, names = config.student, tuple(recipes)
    common: dict[str, Any] = {
        "teachers": tuple(settings.teachers),
        "folds": settings.folds,
        "weight": settings.weight,
        "temperature": settings.temperature,
        "fallback": settings.fallback,
    }
    if settings.choice != "reinforced":
        weights = teacher_weights("rl_kd.weights", settings.weights, settings.teachers)
        chosen = losses.TeacherSelection(**common, rule=settings.choice, weights=weights)
        stage = Stage("rl_kd", student.epochs, chosen, student.optimizer, teachers=names)
        return Method("rl_kd", (stage,), recipes)
    encoder: dict[str, Recipe] = {}
    if settings.sentence_encoder:
        encoder[_SENTENCE] = Frozen(settings.sentence_encoder, "config.rl_kd.sentence_encoder")
    reinforced = losses.ReinforcedSelection(
        **common,
        sentence=_SENTENCE if encoder else "",
        labels=settings.label_errors,
        reward=settings.reward,
        gamma=settings.gamma,
        baseline=settings.baseline,
        momentum=settings.momentum,
        before_update=settings.before_update,
    )
    policy: dict[str, Any] = {
        "loss": reinforced,
        "optimizer": student.optimizer,
        "loss_optimizer": settings.optimizer,
        "loss_data": _reward_examples if settings.reward == "r3" else None,
        "teachers": (*names, *encoder),
    }
    stages: list[Stage] = []
    if settings.uniform_epochs:
        uniform = losses.TeacherSelection(**common)
        stages.append(
            Stage("uniform", settings.uniform_epochs, uniform, student.optimizer, teachers=names)
        )
    start = stages[-1].name if stages else None
    if settings.policy_epochs:
        stages.append(
            Stage("policy", settings.policy_epochs, start=start, frozen=(EVERYTHING,), **policy)
        )
    loss_start = "policy" if settings.policy_epochs else None
    epochs = student.epochs - settings.uniform_epochs - settings.policy_epochs
    stages.append(Stage("rl_kd", epochs, start=start, loss_start=loss_start, **policy))
    return Method("rl_kd", tuple(stages), {**recipes, **encoder})


def _check(config: RunSettings, settings: Config, task: Task) -> None:
    """Raises InputError if the settings do not fit each other or the task."""
    if task.regression:
        raise InputError(
            "config.method: expected a task with classes for rl_kd, got a regression; use"
            " multi_teacher"
        )
    if settings.folds == 1:
        raise InputError(
            "config.rl_kd.folds: expected 0, or at least 2, got 1; set it to 2 or more"
        )
    for name, weight in settings.weights.items():
        if settings.choice == "random" and weight > 1:
            raise InputError(
                f"config.rl_kd.weights.{name}: expected a probability from 0 to 1 for the choice"
                f" random, got {weight:g}; reduce it"
            )
    if settings.choice != "reinforced":
        return
    if settings.sentence_encoder and _SENTENCE in settings.teachers:
        raise InputError(
            f"config.rl_kd.teachers: expected names other than {_SENTENCE}, that of the network of"
            f" config.rl_kd.sentence_encoder, got {_SENTENCE}; rename the teacher"
        )
    if settings.reward == "r3" and settings.before_update:
        raise InputError(
            "config.rl_kd.before_update: expected False with the reward r3, got True; set it to"
            " False, or choose another reward"
        )
    if settings.reward == "r3" and settings.baseline == "batch":
        raise InputError(
            "config.rl_kd.baseline: expected running or none with the reward r3, whose accuracy is"
            " the same for a whole batch, so that the mean of the batch cancels it, got batch; set"
            " it to running"
        )
    if settings.reward == "r3" and not config.dataset.reward_size:
        raise InputError(
            "config.dataset.reward_size: expected at least 1 example for the reward r3, since the"
            " examples that choose the best student must not give the reward too, got 0; set some"
            " apart"
        )
    pretraining = settings.uniform_epochs + settings.policy_epochs
    if pretraining >= config.student.epochs:
        raise InputError(
            "config.rl_kd: expected uniform_epochs and policy_epochs below student.epochs"
            f" ({config.student.epochs}) together, got {pretraining}; set fewer"
        )


def _reward_examples(context: StageContext) -> Variables:
    """Returns the examples of the reward r3; texts are cut to the longest of them."""
    examples, buckets = context.dataset.splits[REWARD_SPLIT], context.dataset.buckets
    inputs = examples.inputs
    if buckets:
        longest = text.longest(inputs).max()
        inputs = text.crop(inputs, min(length for length in buckets if length >= longest))
    return {losses.REWARD_EXAMPLES: {"inputs": inputs, "labels": examples.labels}}


SPEC = MethodSpec(build, Config)
