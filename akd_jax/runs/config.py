"""Schema of a run's configuration: the shared settings and a section for each method.

`default` returns the values of all fields. The files in `configs/` change some of them, as
ml_collections ConfigDicts. `parse` checks a configuration before anything else happens and
returns it in the typed form that the library reads.
"""

import functools
from collections.abc import Mapping
from typing import Any

import pydantic
from ml_collections import config_dict
from pydantic import Field

from akd_jax import methods
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Section, problem_message, unknown_field
from akd_jax.methods.base import RunSettings


def schema() -> type[RunSettings]:
    """Returns the class of a run's configuration, with a section for each method in METHODS."""
    return _schema(tuple((n, spec.config) for n, spec in methods.METHODS.items() if spec.config))


def default() -> RunSettings:
    """Returns the configuration with the default value of every field."""
    return schema()()


def parse(config: config_dict.ConfigDict | Mapping[str, Any]) -> RunSettings:
    """Returns a configuration in its typed form, after checking it.

    Args:
      config: an ml_collections ConfigDict, or the nested dict of a `config.json`.

    Raises:
      InputError: a field is unknown, of the wrong type or out of range. The message names the
        field, the expected value and the actual value.
    """
    fields = config.to_dict() if isinstance(config, config_dict.ConfigDict) else dict(config)
    name = fields.get("method")
    if isinstance(name, str) and name not in methods.METHODS:
        raise InputError(
            f"config.method: expected one of {', '.join(methods.METHODS)}, got {name!r}; add a"
            " custom method to akd_jax.methods.METHODS first; launchers import it by --imports"
        )
    try:
        return schema().model_validate(fields)
    except pydantic.ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(_error_message(problems[0]) + more) from None


def method_sections(settings: RunSettings) -> dict[str, Section]:
    """Returns the sections that the chosen method reads, by name."""
    spec = methods.METHODS[settings.method]
    own = (settings.method,) if spec.config else ()
    return {name: getattr(settings, name) for name in (*own, *spec.reads)}


@functools.lru_cache
def _schema(sections: tuple[tuple[str, type[Section]], ...]) -> type[RunSettings]:
    fields: dict[str, Any] = {
        name: (kind, Field(default=kind(), description=f"Settings of the method {name}."))
        for name, kind in sections
    }
    return pydantic.create_model("RunConfig", __base__=RunSettings, **fields)


def _error_message(problem: Any) -> str:
    """Returns the message of one of pydantic's error records, in one line."""
    parents = problem["loc"][:-1]
    field = ".".join(["config", *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return unknown_field(field, _field_names(tuple(parents)))
    return problem_message(problem, field)


def _field_names(path: tuple[str, ...]) -> list[str]:
    """Returns the names of the fields of the section at `path`."""
    section: Any = schema()
    for name in path:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
