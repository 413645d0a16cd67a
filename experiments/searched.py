"""The best settings of a finished search, for the rows of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import traverse_util
from ml_collections.config_dict import ConfigDict

from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute
from experiments.grid import changed

SEARCH = "search.json"

Settings = Mapping[str, Any]  # The values of fields by their full names without 'config.'.


def with_row(config: ConfigDict, row: str, settings: Settings) -> ConfigDict:
    """Returns a configuration in which a row has the given settings."""
    variants = config.variants.to_dict()
    variants[row] = _with_settings(variants.get(row, {"method": row}), settings)
    config = changed(config)
    config.variants = ConfigDict(variants)
    return config


def use_best(config: ConfigDict, rows: Sequence[str], seeds: int, path: Path) -> ConfigDict:
    """Returns a configuration whose rows have the best settings of a finished search.

    Args:
      config: the configuration of a comparison.
      rows: the names of the rows.
      seeds: the number of seeds of the comparison.
      path: the folder of the search, or its search.json under any name.

    Raises:
      InputError: there is no finished search, the search has no such row, or the comparison has a
        seed of the search.
    """

    def read() -> dict[str, Any] | None:
        file = absolute(path)
        return records.read(file / SEARCH if file.is_dir() else file)

    search = processes.on_primary(read)
    if search is None or not {"seeds", "methods"} <= search.keys():
        raise InputError(
            f"--search: expected the folder of a finished search or its {SEARCH}, got {path}; run"
            " experiments.search first"
        )
    shared = set(search["seeds"]) & set(range(config.seed, config.seed + seeds))
    if shared:
        raise InputError(
            f"--search: expected seeds that the search has not used, got {min(shared)}; set"
            f" --config.seed={max(search['seeds']) + 1}"
        )
    for row in rows:
        if row not in search["methods"]:
            raise InputError(
                f"--search: expected rows among {', '.join(search['methods'])}, got {row!r}; search"
                " its settings too"
            )
        config = with_row(config, row, search["methods"][row]["best"]["settings"])
    return config


def _with_settings(fields: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Returns the fields of a row as a nested dictionary, with settings that a search found."""
    flat = {
        **traverse_util.flatten_dict(dict(fields), sep=".", keep_empty_nodes=True),
        **settings,
    }
    return traverse_util.unflatten_dict(flat, sep=".")
