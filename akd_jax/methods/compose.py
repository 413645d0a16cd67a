r"""A sum of losses that the configuration names, each with a scheduled weight.

For example, the cross-entropy, the KL divergence and a hint whose weight falls to 0:

    --config.method=compose --config.compose.kl.weight=0.9 --config.compose.hint.weight=100 \
        --config.compose.hint.layers=group_2 --config.compose.hint.schedule=linear
"""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.errors import InputError
from akd_jax.host.settings import NonNegative, NonNegativeInt, Positive, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.schedules import Schedule
from akd_jax.training.stage import Method, Stage
from akd_jax.types import Loss, Task


class TermConfig(Section):
    """The weight of a term and its schedule."""

    weight: NonNegative = Field(
        default=0.0, description="Weight of the term at the beginning; 0 leaves the term out."
    )
    schedule: Literal["constant", "linear", "cosine", "exponential"] = Field(
        default="constant",
        description="Schedule of the weight: 'constant', or the curve from weight to end_weight.",
    )
    end_weight: NonNegative = Field(
        default=0.0,
        description="Weight at the end of the schedule, at least 0; above 0 for 'exponential'.",
    )
    schedule_epochs: NonNegativeInt = Field(
        default=0, description="Number of epochs of the schedule; 0 for all epochs of the student."
    )

    def weight_schedule(self, epochs: int) -> Schedule:
        """Returns the schedule of the weight in a stage of some epochs."""
        length = self.schedule_epochs or epochs
        match self.schedule:
            case "linear":
                return schedules.linear(self.weight, self.end_weight, epochs=length)
            case "cosine":
                return schedules.cosine(self.weight, self.end_weight, epochs=length)
            case "exponential":
                return schedules.exponential(self.weight, self.end_weight, epochs=length)
            case _:
                return schedules.constant(self.weight)


class KLConfig(TermConfig):
    """The KL divergence of the softened class probabilities."""

    temperature: Positive = Field(default=4.0, description="Softmax temperature T, above 0.")


class LayersConfig(TermConfig):
    """A loss of hidden features."""

    layers: str = Field(
        default="pooled",
        description="Feature of student and teacher, such as group_2, or STUDENT:TEACHER; several"
        " ones, separated by commas, are added.",
    )

    def pairs(self) -> list[tuple[str, str]]:
        """Returns the names of the student's and the teacher's features."""
        names = [pair.strip().partition(":") for pair in self.layers.split(",")]
        return [(student, teacher or student) for student, _, teacher in names]


class Config(Section):
    """The terms of the loss of the method compose."""

    supervised: TermConfig = Field(
        default=TermConfig(weight=1.0),
        description="Cross-entropy of the labels, or squared error in a regression.",
    )
    kl: KLConfig = Field(default=KLConfig(), description="KL divergence from the teacher.")
    hint: LayersConfig = Field(
        default=LayersConfig(),
        description="FitNets: mean squared error of features, with a trained projector. A usual"
        " weight is 100.",
    )
    attention_transfer: LayersConfig = Field(
        default=LayersConfig(layers="group_1,group_2,group_3"),
        description="Attention transfer: distance of normalised attention maps. A usual weight"
        " is 1000.",
    )
    sp: LayersConfig = Field(
        default=LayersConfig(),
        description="Distance of the similarities within a batch. A usual weight is 3000.",
    )
    rkd_distance: LayersConfig = Field(
        default=LayersConfig(),
        description="Relational KD: distances within a batch. A usual weight is 25.",
    )
    rkd_angle: LayersConfig = Field(
        default=LayersConfig(),
        description="Relational KD: angles within a batch. A usual weight is 50.",
    )


_FEATURE_LOSSES: Mapping[str, Callable[..., jax.Array]] = {
    "attention_transfer": losses.attention_transfer,
    "sp": losses.sp,
    "rkd_distance": losses.rkd_distance,
    "rkd_angle": losses.rkd_angle,
}


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage whose loss is the weighted sum of the terms with a weight above 0.

    Raises:
      InputError: no term has a weight, a schedule has no valid end, a term reads a feature of the
        student twice, or the KL divergence is asked for in a regression.
    """
    settings, student = config.section(Config), config.student
    if settings.kl.weight and task.regression:
        raise InputError(
            "config.compose.kl.weight: expected 0 in a regression, which has no class"
            f" probabilities, got {settings.kl.weight:g}; set it to 0"
        )
    terms: dict[str, tuple[Schedule, Loss]] = {}
    for name in Config.model_fields:
        section: TermConfig = getattr(settings, name)
        if not (section.weight or section.end_weight):
            continue
        try:
            weight = section.weight_schedule(student.epochs)
        except ValueError as error:
            raise InputError(f"config.compose.{name}: {error}") from None
        terms |= {term: (weight, loss) for term, loss in _term_losses(name, section).items()}
    if not terms:
        raise InputError(
            "config.compose: expected a term with a weight above 0, got none; set"
            " config.compose.NAME.weight"
        )
    loss = losses.compose(**terms)
    reads_teacher = terms.keys() != {"supervised"}
    stage = Stage(
        "compose",
        student.epochs,
        loss,
        student.optimizer,
        teachers=("teacher",) if reads_teacher else (),
    )
    return Method("compose", (stage,), default_teacher(config) if reads_teacher else {})


def _term_losses(name: str, section: TermConfig) -> dict[str, Loss]:
    """Returns the losses of a section by the names of their terms."""
    if isinstance(section, KLConfig):
        return {name: losses.bind(losses.kl, temperature=section.temperature)}
    if not isinstance(section, LayersConfig):
        return {name: losses.bind(losses.supervised)}
    pairs = section.pairs()
    students = [student for student, _ in pairs]
    for student in students:
        if students.count(student) > 1:
            raise InputError(
                f"config.compose.{name}.layers: expected different features of the student, got"
                f" {student!r} twice; name each once"
            )
    names = [name] if len(pairs) == 1 else [f"{name}_{student}" for student in students]
    if name == "hint":
        feature_losses: list[Loss] = [losses.Hint(pair) for pair in pairs]
    else:
        feature_losses = [losses.bind(_FEATURE_LOSSES[name], layers=pair) for pair in pairs]
    return dict(zip(names, feature_losses, strict=True))


SPEC = MethodSpec(build, Config)
