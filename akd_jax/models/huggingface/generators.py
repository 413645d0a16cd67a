"""Reading of Hugging Face folders with networks that generate texts."""

from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.host.settings import problem_message
from akd_jax.models.huggingface.folder import CONFIG, Folder

_Config = TypeVar("_Config")


def read_settings(folder: Path, model_type: str) -> dict[str, Any]:
    """Returns the content of config.json.

    Raises:
      InputError: the file is missing or damaged, or that of another model type.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(
            f"expected a Hugging Face folder of the model_type {model_type}, got {str(folder)!r}"
            f" without {CONFIG}; fetch one by: hf download NAME --local-dir {folder}"
        )
    settings = Folder(folder).read_config()
    if settings.get("model_type") != model_type:
        raise InputError(
            f"{path}: expected the model_type {model_type}, got {settings.get('model_type')!r};"
            " use a supported model"
        )
    return settings


def check_settings(
    folder: Path,
    settings: Mapping[str, Any],
    required: tuple[str, ...],
    fixed: Mapping[str, Any],
) -> None:
    """Raises InputError if a field is missing, or has a value that is not supported.

    Args:
      folder: the folder.
      settings: the content of its config.json.
      required: the fields that must be there, because a default value would be wrong for most
        models.
      fixed: the only supported value of further fields, which may be missing.
    """
    path = folder / CONFIG
    for field in required:
        if field not in settings:
            raise InputError(
                f"{path}: expected {field}, got none; fetch the {CONFIG} of the model again"
            )
    for field, expected in fixed.items():
        if settings.get(field, expected) != expected:
            raise InputError(
                f"{path}: expected {field} {expected!r}, got {settings[field]!r}; use a supported"
                " model"
            )


def build_config(
    folder: Path, kind: type[_Config], values: Mapping[str, Any], fields: Mapping[str, str]
) -> _Config:
    """Returns a configuration with the values of config.json.

    Args:
      folder: the folder.
      kind: the class of the configuration.
      values: its arguments.
      fields: the names of fields of config.json by those of the arguments, for messages.

    Raises:
      InputError: a value has the wrong type or is out of range.
    """
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        message = problem_message(problem, fields.get(name, name))
        raise InputError(
            f"{folder / CONFIG}: {message}; fetch the {CONFIG} of the model again"
        ) from None
