"""The section of the configuration for a term of the method compose, derived from its loss.

The options of a loss are the keyword arguments of its function, or the attributes of its module.
Their names, default values and descriptions are those of the loss; they are not written twice.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pydantic
from pydantic import Field

from akd_jax import losses, schedules
from akd_jax.host.errors import InputError
from akd_jax.host.settings import NonNegative, NonNegativeInt, Section
from akd_jax.losses.binding import READ
from akd_jax.schedules import Schedule
from akd_jax.types import Loss

# Arguments that no configuration sets: the axis of the classes is the last one, and no class is
# masked.
_FIXED = {
    *READ,
    "axis_name",
    "axis",
    "where",
    "ignore_index",
    "teacher",
    "layers",
    "name",
    "parent",
}


class TermConfig(Section):
    """The weight of a term and its schedule."""

    weight: NonNegative = Field(
        default=0.0, description="Weight of the term at the beginning; 0 leaves the term out."
    )
    schedule: Literal["constant", "linear", "cosine", "exponential", "warm_up"] = Field(
        default="constant",
        description="Schedule of the weight: 'constant'; the curve from weight to end_weight; or"
        " 'warm_up', a line from 0 to weight.",
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
            case "warm_up":
                return schedules.warm_up(self.weight, epochs=length)
            case _:
                return schedules.constant(self.weight)


@dataclasses.dataclass(frozen=True)
class TermSpec:
    """A loss that a configuration can name.

    Attributes:
      loss: a function of arrays; or a class whose instances are losses, such as a Flax module. Its
        attribute `layers`, if it has one, names the features.
      usual_weight: a published weight next to a cross-entropy of weight 1, as text.
      layers: the default of the field `layers`; empty for the default of the module.
      each_layer: whether several layers give several terms; otherwise the loss reads all of them.
      of_classes: whether the loss compares class probabilities, which a regression does not have.
    """

    loss: Callable[..., Any]
    usual_weight: str = ""
    layers: str = ""
    each_layer: bool = True
    of_classes: bool = False

    @property
    def reads_layers(self) -> bool:
        """Whether the loss reads hidden features."""
        return not {"layers", "student_features"}.isdisjoint(_parameters(self.loss))

    @property
    def reads_teacher(self) -> bool:
        """Whether the loss reads a teacher: a class does, and a function with such a parameter."""
        return isinstance(self.loss, type) or any(
            name.startswith("teacher_") for name in _parameters(self.loss)
        )

    def section(self, name: str, weight: float) -> Section:
        """Returns the section of the term with its default values.

        Args:
          name: the name of the term.
          weight: the default weight.
        """
        fields: dict[str, Any] = {
            option: (kind, Field(default=default, description=_description(self.loss, option)))
            for option, (kind, default) in self.options().items()
        }
        if self.reads_layers:
            layers = self.layers or _text(_parameters(self.loss)["layers"].default)
            several = "added" if self.each_layer else "read together"
            description = (
                "Features of student and teacher, such as group_2, or STUDENT:TEACHER; several"
                f" ones, separated by commas, are {several}."
            )
            fields["layers"] = (str, Field(default=layers, description=description))
        kind = pydantic.create_model(
            f"{name}_config", __base__=TermConfig, __doc__=_summary(self.loss), **fields
        )
        return kind(weight=weight)

    def options(self) -> dict[str, tuple[Any, Any]]:
        """Returns the type and the default value of each option of the loss."""
        hints = typing.get_type_hints(self.loss)
        options: dict[str, tuple[Any, Any]] = {}
        for option, parameter in _parameters(self.loss).items():
            default = parameter.default
            if option in _FIXED or not isinstance(default, (bool, int, float, str)):
                continue
            literal = typing.get_origin(hints.get(option)) is Literal
            options[option] = (hints[option] if literal else type(default), default)
        return options

    def losses(self, name: str, section: Section) -> dict[str, Loss]:
        """Returns the losses of the term by name: one, or one for each pair of layers.

        Raises:
          InputError: a feature of the student is named twice.
        """
        options = {option: getattr(section, option) for option in self.options()}
        if not self.reads_layers:
            return {name: self._create(**options)}
        pairs = parse_layers(getattr(section, "layers"))  # noqa: B009 - the field is derived.
        students = [student for student, _ in pairs]
        for student in students:
            if self.each_layer and students.count(student) > 1:
                raise InputError(
                    f"config.compose.{name}.layers: expected different features of the student,"
                    f" got {student!r} twice; name each once"
                )
        if not self.each_layer:
            return {name: self._create(layers=pairs, **options)}
        names = [name] if len(pairs) == 1 else [f"{name}_{student}" for student in students]
        return {
            term: self._create(layers=pair, **options)
            for term, pair in zip(names, pairs, strict=True)
        }

    def _create(self, **options: Any) -> Loss:
        if isinstance(self.loss, type):
            created: Loss = self.loss(**options)
            return created
        function: Callable[..., Any] = self.loss
        return losses.bind(function, **options)


def parse_layers(text: str) -> tuple[tuple[str, str], ...]:
    """Returns the names of the student's and the teacher's features in 'S1:T1,BOTH,...'."""
    names = [pair.strip().partition(":") for pair in text.split(",")]
    return tuple((student, teacher or student) for student, _, teacher in names)


def _text(layers: Any) -> str:
    """Returns the layers of a module in the form that `parse_layers` reads."""
    if isinstance(layers, str):
        return layers
    pairs = [(x, x) if isinstance(x, str) else x for x in layers]
    return ",".join(s if s == t else f"{s}:{t}" for s, t in pairs)


def _parameters(loss: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(loss).parameters


def _summary(loss: Callable[..., Any]) -> str:
    """Returns the first sentence of a loss's docstring, as a description of the loss."""
    sentence = re.split(r"(?<=[.:])\s", inspect.getdoc(loss) or "", maxsplit=1)[0]
    return _sentence(sentence.rstrip(".:").removeprefix("Returns "))


def _description(loss: Callable[..., Any], option: str) -> str:
    """Returns what the docstring of a loss says about one of its options, in one line."""
    found = re.search(
        rf"^  {option}: (.*?)(?=^  \w+: |^\S|\Z)", inspect.getdoc(loss) or "", re.M | re.S
    )
    if found is None:
        raise ValueError(f"{loss.__name__}: expected a description of the option {option!r}")
    # A configuration holds one number, not one for each row.
    per_row = r",? a scalar(?: or(?: one value per row)?)?(?: \[\.\.\.\])?"
    return _sentence(re.sub(per_row, "", " ".join(found[1].split())).rstrip("."))


def _sentence(text: str) -> str:
    """Returns a text in one line, with a capital letter and a full stop."""
    line = " ".join(text.split())
    return f"{line[0].upper()}{line[1:]}."
