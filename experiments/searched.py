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


def shortened(config: ConfigDict, divisor: int) -> ConfigDict:
    """Returns a configuration whose students train for fewer epochs.

    All numbers of epochs are divided and rounded, to 1 at least. Those of networks with a path stay
    as they are, since these are trained once for all students.

    Args:
      config: the configuration of a run.
      divisor: at least 1.
    """
    fields = traverse_util.flatten_dict(config.to_dict(), sep=".")

    def is_divided(field: str, value: Any) -> bool:
        section, _, name = field.rpartition(".")
        counts_epochs = name.endswith("epochs") or name == "psi_until"
        return counts_epochs and bool(value) and f"{section}.path" not in fields

    config = changed(config)
    config.update_from_flattened_dict(
        {
            field: max(1, round(value / divisor))
            for field, value in fields.items()
            if is_divided(field, value)
        }
    )
    return config


def use_best(config: ConfigDict, rows: Sequence[str], seeds: int, folder: Path) -> ConfigDict:
    """Returns a configuration whose rows have the best settings of a finished search.

    Args:
      config: the configuration of a comparison.
      rows: the names of the rows.
      seeds: the number of seeds of the comparison.
      folder: the folder of the search.

    Raises:
      InputError: the folder has no finished search, the search has no such row, or the comparison
        has a seed of the search.
    """
    search = processes.on_primary(lambda: records.read(absolute(folder) / SEARCH))
    if search is None:
        raise InputError(
            f"--search: expected the folder of a finished search, got {folder} without {SEARCH};"
            " run experiments.search first"
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
