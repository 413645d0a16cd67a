"""Base of all sections of the configuration, and the types of their fields."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

import pydantic
from pydantic import Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PositiveFraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Section(pydantic.BaseModel):
    """A section of the configuration; every field has a default value and a description.

    Unknown fields, type conversions and later changes are errors.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def unknown_field(field: str, known: Iterable[str]) -> str:
    """Returns the error message for an unknown field, with the most similar known name.

    Args:
      field: the full name, such as 'config.student.epoch'.
      known: the names of the section's fields.
    """
    nearest = difflib.get_close_matches(field.rpartition(".")[2], list(known), n=1, cutoff=0.0)
    return f"{field}: unknown field; did you mean {nearest[0]!r}?"


def problem_message(problem: Any, field: str | None = None) -> str:
    """Returns one line with a field's name, the expected value and the actual value.

    Args:
      problem: one of pydantic's error records.
      field: the field's full name; by default pydantic's location of the problem.
    """
    field = ".".join(map(str, problem["loc"])) if field is None else field
    if problem["type"] == "missing":
        return f"expected {field}, got none"
    message = problem["msg"].replace("Input should be", "expected").replace("Value error, ", "")
    return f"{field}: {message}, got {problem['input']!r}" if field else message
