"""The ranges of a search: fields of a configuration, and Optuna's distributions of their values.

config.search has for each row its fields, nested as in the configuration, each with one of

  ["log", LOW, HIGH]       the logarithm is uniform; whole numbers give a whole number
  ["linear", LOW, HIGH]    the value is uniform
  ["choice", VALUE, ...]   one of the values
"""

import math
from typing import Any

from flax import traverse_util
from ml_collections.config_dict import ConfigDict
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from akd_jax.host.errors import InputError
from akd_jax.runs.config import parse
from experiments.grid import row_config
from experiments.searched import with_row


def read_space(config: ConfigDict, row: str) -> dict[str, BaseDistribution]:
    """Returns the fields that a search varies in a row, with their distributions.

    Args:
      config: the configuration, whose section `search` has the ranges of the row.
      row: the name of the row.

    Raises:
      InputError: the row has no ranges, a range is malformed, or a field does not exist or has
        another type.
    """
    ranges = config.search.to_dict().get(row)
    if not ranges:
        raise InputError(
            f"config.search: expected ranges of the fields of {row}, got those of"
            f" {', '.join(config.search) or 'no row'}; add config.search.{row}"
        )
    flat = traverse_util.flatten_dict(ranges, sep=".")
    space = {field: _distribution(row, field, given) for field, given in flat.items()}
    for field, distribution in space.items():
        _check_field(config, row, field, distribution)
    return space


def _distribution(row: str, field: str, given: Any) -> BaseDistribution:
    kind, *values = given if isinstance(given, tuple | list) and given else (given,)
    if kind == "choice" and values:
        return CategoricalDistribution(values)
    if (
        kind in ("log", "linear")
        and len(values) == 2
        and all(isinstance(x, int | float) and math.isfinite(x) for x in values)
        and values[0] < values[1]
        and (kind == "linear" or values[0] > 0)
    ):
        is_int = all(isinstance(x, int) for x in values)
        make = IntDistribution if is_int else FloatDistribution
        return make(low=values[0], high=values[1], log=kind == "log")
    raise InputError(
        f"config.search.{row}.{field}: expected ['log', LOW, HIGH] with LOW above 0,"
        f" ['linear', LOW, HIGH] or ['choice', VALUE, ...], got {given!r}"
    )


def _check_field(config: ConfigDict, row: str, field: str, values: BaseDistribution) -> None:
    """Raises InputError unless the field exists and can have the values."""
    some = vars(values)
    for value in some["choices"] if "choices" in some else (some["low"], some["high"]):
        try:
            parse(row_config(with_row(config, row, {field: value}), row))
        except InputError as error:
            raise InputError(f"config.search.{row}.{field}: {error}") from None
