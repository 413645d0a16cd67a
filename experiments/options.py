"""The flags that several launchers share, and the explanation of wrong ones."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_dict, config_flags

from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, as_path, reason
from akd_jax.host.settings import unknown_field
from akd_jax.host.writers import Output
from akd_jax.methods import METHODS

# absl attributes a flag to the module that defines it. The flags below belong to the launchers.
flags.disclaim_key_flags()


_OUTPUTS = ("quiet", "log_json")
# A process may import several launchers, and a flag can be defined only once.
_DEFINED: dict[str, flags.FlagHolder] = {}


def config_flag() -> flags.FlagHolder:
    """Defines --config=FILE[:ARGUMENT], whose fields --config.FIELD=VALUE overrides."""
    return _shared(
        config_flags.DEFINE_config_file,
        "config",
        None,
        "Configuration file, with an argument after a colon, such as"
        " configs/digits.py:annealing_kd.",
        lock_config=True,
    )


def define_output_flags() -> None:
    """Defines --quiet and --log_json."""
    _shared(flags.DEFINE_bool, "quiet", False, "Print only errors and warnings.")
    description = "Print the records of the epochs as JSON lines, and nothing else."
    _shared(flags.DEFINE_bool, "log_json", False, description)


def output() -> Output:
    """Returns what --quiet and --log_json ask for; 'text' for a launcher without them.

    Raises:
      InputError: both are given.
    """
    quiet, log_json = (name in flags.FLAGS and flags.FLAGS[name].value for name in _OUTPUTS)
    if quiet and log_json:
        raise InputError("--quiet, --log_json: expected at most one of them, got both")
    return "quiet" if quiet else "json" if log_json else "text"


def define_imports_flag() -> None:
    """Defines --imports=MODULE,MODULE,..."""
    description = "Python modules to import first, which register methods, networks or data sets."
    _shared(flags.DEFINE_list, "imports", None, description)


def import_modules(argv: Sequence[str]) -> None:
    """Imports the modules that --imports names, before a configuration is read.

    Args:
      argv: the arguments of the command line, which need not be parsed yet.

    Raises:
      InputError: a module cannot be imported.
    """
    for name in filter(None, _flag_values(argv).get("imports", "").split(",")):
        try:
            importlib.import_module(name)
        except Exception as error:  # The module is the user's code and can raise anything.
            raise InputError(
                f"--imports: expected Python modules, got {name!r}: {reason(error)}; correct it, or"
                " run the command in the folder of the module"
            ) from None


def methods_flag() -> flags.FlagHolder:
    """Defines --methods=ROW,ROW,..."""
    description = (
        f"Rows of the table: methods, among {', '.join(METHODS)}; or names in the configuration's"
        " variants."
    )
    return _shared(flags.DEFINE_list, "methods", None, description)


def equal_updates_flag() -> flags.FlagHolder:
    """Defines --equal_updates."""
    description = "Whether rows must train students for the same number of updates."
    return _shared(flags.DEFINE_bool, "equal_updates", True, description)


def workdir_flag() -> flags.FlagHolder:
    """Defines --workdir=DIR."""
    return _shared(flags.DEFINE_string, "workdir", None, "Folder of the run or comparison.")


def output_flag() -> flags.FlagHolder:
    """Defines --output=PATH."""
    return _shared(flags.DEFINE_string, "output", None, "File or folder to write.")


def title_flag() -> flags.FlagHolder:
    """Defines --title=TEXT."""
    return _shared(flags.DEFINE_string, "title", None, "Title of the picture.")


def format_flag() -> flags.FlagHolder:
    """Defines --format=NAME."""
    return _shared(flags.DEFINE_string, "format", None, "Format of what is written; see above.")


def split_flag() -> flags.FlagHolder:
    """Defines --split=NAME."""
    return _shared(
        flags.DEFINE_string,
        "split",
        "test",
        "Split to evaluate: 'train', 'validation', 'test' or, for MNLI, 'test_mismatched'.",
    )


def beams_flag() -> flags.FlagHolder:
    """Defines --beams=N."""
    description = "Number of beams of generated texts; 1 decodes greedily."
    return _shared(flags.DEFINE_integer, "beams", 1, description, lower_bound=1)


def length_penalty_flag() -> flags.FlagHolder:
    """Defines --length_penalty=NUMBER."""
    description = "Exponent of the length by which the score of a beam is divided."
    return _shared(flags.DEFINE_float, "length_penalty", 0.0, description, lower_bound=0.0)


def trials_flag() -> flags.FlagHolder:
    """Defines --trials=N."""
    return _shared(
        flags.DEFINE_integer, "trials", 30, "Number of trials of each row.", lower_bound=1
    )


def seeds_flag() -> flags.FlagHolder:
    """Defines --seeds=N."""
    description = "Number of students of each row, whose seeds count up."
    return _shared(flags.DEFINE_integer, "seeds", 3, description, lower_bound=1)


def _shared(define: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
    """Defines a flag unless it exists, as one of the launcher that asks for it."""
    if name not in _DEFINED:
        _DEFINED[name] = define(name, *arguments, **options)
    flags.declare_key_flag(name)
    return _DEFINED[name]


def require_greedy(beams: int) -> None:
    """Raises InputError if beams are given for a run that generates no texts."""
    if beams != 1:
        raise InputError(
            f"--beams: expected 1 for a run that generates no texts, got {beams}; leave it out"
        )


def path(flag: flags.FlagHolder) -> Path:
    """Returns a flag's value as a path."""
    return as_path(flag.value or "")


def parse(argv: Sequence[str]) -> Sequence[str]:
    """Parses the flags; returns the program's name and the positional arguments.

    Raises:
      InputError: a flag is unknown, or its value is not valid.
    """
    try:
        positional = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS["config"].present:
            _ = flags.FLAGS.config.method  # Raises OSError if the file could not be read.
    # ml_collections raises the last four for an override that does not fit its field.
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        _check_config_flags(argv, error)
        raise InputError(str(error)) from error
    # absl raises a default verbosity to INFO, at which Orbax logs dozens of lines for each
    # checkpoint. Marking the value as the user's prevents that.
    flags.FLAGS["verbosity"].using_default_value = False
    return positional


def read_config(argv: Sequence[str]) -> config_dict.ConfigDict | None:
    """Returns the configuration of the file that --config names, without overrides.

    Args:
      argv: the arguments of the command line, which need not be parsed yet.

    Returns:
      The configuration; None if --config is missing.

    Raises:
      InputError: the file cannot be read, or its get_config fails.
    """
    file = _flag_values(argv).get("config")
    if not file:
        return None
    try:
        config: Any = flags.FLAGS["config"].parser.parse(file)
        _ = config.method
    except Exception as error:  # The file is the user's code and can raise anything.
        reason = str(error.__cause__ or error).strip().splitlines()[-1]
        raise InputError(
            "--config: expected a file such as configs/digits.py whose get_config returns a"
            f" ConfigDict, got {file!r}: {reason}"
        ) from None
    return config


def _check_config_flags(argv: Sequence[str], error: Exception) -> None:
    """Explains an error of flag parsing where --config or one of its overrides caused it.

    Raises:
      InputError: the cause, with the field's name.
    """
    config = read_config(argv)
    if config is None:
        return
    for name, value in _flag_values(argv).items():
        if name.startswith("config."):
            rejected = f"--{name}={value}:" in str(error)
            _check_override(config, name.split(".")[1:], value, rejected)


def _check_override(
    config: Mapping[str, Any], fields: Sequence[str], value: str, rejected: bool
) -> None:
    """Raises InputError if an override names no field, or if its value was rejected."""
    field: Any = config
    path = "config"
    for name in fields:
        if not isinstance(field, config_dict.ConfigDict):
            raise InputError(f"{path}.{name}: unknown field; {path} is a value, not a section")
        path = f"{path}.{name}"
        if name not in field:
            raise InputError(unknown_field(path, field.keys()))
        field = field[name]
    if not rejected:
        return
    if isinstance(field, config_dict.ConfigDict):
        names = ", ".join(field)
        raise InputError(f"{path}: expected one of its fields, got the section; set {names}")
    raise InputError(
        f"{path}: expected a value of type {type(field).__name__}, such as {field!r}, got {value!r}"
    )


def _flag_values(argv: Sequence[str]) -> dict[str, str]:
    """Returns flag names and values, written as --name=value or --name value."""
    values: dict[str, str] = {}
    name = ""
    for argument in argv[1:]:
        if argument.startswith("-"):
            name, _, value = argument.lstrip("-").partition("=")
            values[name] = value
        elif name and not values[name]:
            values[name] = argument
    return values
