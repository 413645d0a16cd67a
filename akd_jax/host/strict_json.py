"""Records that are valid JSON, which has no NaN and no Infinity."""

import math
from collections.abc import Mapping
from typing import Any

from absl import logging

from akd_jax.host.files import Path


def replace_nonfinite(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Replaces numbers that are not finite by None, since JSON has no NaN and no Infinity.

    Logs one warning that names the fields.

    Args:
      record: mappings, sequences and values that JSON can hold.
      path: the file that the record is written to, for the warning.
    """
    fields: list[str] = []

    def replace(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: replace(item, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [replace(item, f"{name}.{index}") for index, item in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            fields.append(name.removeprefix("."))
            return None
        return value

    finite: dict[str, Any] = replace(record, "")
    if fields:
        logging.warning(
            "%s: expected finite numbers, got NaN or infinity in %s; null is written instead",
            path,
            ", ".join(fields),
        )
    return finite
