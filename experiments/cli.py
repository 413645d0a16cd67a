"""Command-line handling shared by all launchers: flags, one-line errors and exit codes."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from akd_jax.host import interrupts, processes
from akd_jax.host.errors import DivergedError, InputError, StoppedError
from akd_jax.host.files import Path, as_path, not_writable
from akd_jax.runs import config as config_schema
from configs import default
from experiments import cluster, help
from experiments.cluster import EX_TEMPFAIL, Outcome
from experiments.jax_setup import set_up_jax

# absl attributes a flag to the module that defines it. The flags below belong to the launchers.
flags.disclaim_key_flags()


def config_flag() -> flags.FlagHolder:
    """Defines --config=FILE[:ARGUMENT], whose fields --config.FIELD=VALUE overrides."""
    holder = _define_config_flag()
    flags.declare_key_flag("config")
    return holder


def workdir_flag() -> flags.FlagHolder:
    """Defines --workdir=DIR."""
    return _string_flag("workdir", "Folder of the run or comparison.")


def output_flag() -> flags.FlagHolder:
    """Defines --output=PATH."""
    return _string_flag("output", "File or folder to write.")


# Cached, because a process may import several launchers, and a flag can be defined only once.
@functools.cache
def _define_config_flag() -> flags.FlagHolder:
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration file, with an argument after a colon, such as"
        " configs/digits.py:annealing_kd.",
        lock_config=True,
    )


@functools.cache
def _define_string_flag(name: str, description: str) -> flags.FlagHolder:
    return flags.DEFINE_string(name, None, description)


def _string_flag(name: str, description: str) -> flags.FlagHolder:
    holder = _define_string_flag(name, description)
    flags.declare_key_flag(name)
    return holder


def path(flag: flags.FlagHolder) -> Path:
    """Returns a flag's value as a path."""
    return as_path(flag.value or "")


def launch(
    main: Callable[[], None], *, required: Sequence[str], several_processes: bool = False
) -> None:
    """Parses the command line and runs `main`.

    An expected error ends the process with one line on standard error and one of two codes:

    - 1 for wrong flags, InputError, DivergedError and a full or read-only disk;
    - 75 (EX_TEMPFAIL) where the same command resumes the run: after SIGTERM, the notice of a
      preemption, once everything is saved, and after the loss of another process.

    --help prints the launcher's flags and the fields of its configuration, and exits with 0.

    Args:
      main: the launcher's main function. The docstring of its module is shown by --help.
      required: names of the flags that must be given.
      several_processes: whether the launcher can run as one of several processes, which
        --coordinator_address, --num_processes and --process_id or the environment describe.
    """
    if several_processes:
        cluster.define_flags()
    if help.is_requested(sys.argv):
        try:
            text = _help_text(main, required, several_processes)
        except InputError as error:
            fail(str(error))
        try:
            print(text, flush=True)
        except BrokenPipeError:  # The reader, such as head, closed the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    flags.mark_flags_as_required(list(required))

    def run(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            fail(f"expected flags only, got {argv[1]!r}; write it as --flag=value")
        try:
            in_cluster = several_processes and cluster.is_requested()
        except InputError as error:
            fail(str(error))
        set_up_jax()
        if in_cluster:
            cluster.join(lambda: _run_main(main), report=_report)
        outcome = _run_main(main)
        if outcome.code:
            fail(outcome.message, outcome.code)

    app.run(run, flags_parser=_parse_flags)


def _help_text(main: Callable[[], None], required: Sequence[str], several_processes: bool) -> str:
    launcher = sys.modules[main.__module__]
    own_flags = flags.FLAGS.get_key_flags_for_module(launcher)
    config = None
    if "config" in (flag.name for flag in own_flags):
        file = _flag_values(sys.argv).get("config")
        config = config_schema.parse(_read_config(file) if file else default.get_config())
    if several_processes:
        own_flags += flags.FLAGS.get_flags_for_module(cluster)
    return help.text(launcher.__doc__ or "", own_flags, required, config)


def _run_main(main: Callable[[], None]) -> Outcome:
    """Runs `main` and turns expected errors into an exit code and a message."""
    if not processes.is_primary():
        logging.set_verbosity(logging.ERROR)  # Only the primary process prints progress.
    try:
        with interrupts.listen():
            main()
    except StoppedError as error:
        return Outcome(EX_TEMPFAIL, str(error))
    except (InputError, DivergedError) as error:
        return Outcome(1, str(error))
    except OSError as error:  # For example, the disk became full while a report was written.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        return Outcome(1, str(not_writable(as_path(error.filename or "."), error)))
    except KeyboardInterrupt:
        return Outcome(1, "interrupted; run the same command to resume from the last checkpoint")
    return Outcome(0)


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints an error as one line on standard error and ends the process with `code`."""
    _report(message)
    sys.exit(code)


def _report(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)


def print_on_primary(text: str) -> None:
    """Prints `text` in the primary process only."""
    if processes.is_primary():
        print(text, flush=True)


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    """Parses the flags; returns the program's name and the positional arguments."""
    try:
        positional = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS["config"].present:
            _ = flags.FLAGS.config.method  # Raises OSError if the file could not be read.
    # ml_collections raises the last four for an override that does not fit its field.
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        try:
            _check_config_flags(argv, error)
        except InputError as problem:
            fail(str(problem))
        fail(str(error))
    # absl raises a default verbosity to INFO, at which Orbax logs dozens of lines for each
    # checkpoint. Marking the value as the user's prevents that.
    flags.FLAGS["verbosity"].using_default_value = False
    return positional


def _read_config(file: str) -> config_dict.ConfigDict:
    """Returns the configuration that a file, as given to --config, defines.

    Raises:
      InputError: the file cannot be read, or its get_config fails.
    """
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
    values = _flag_values(argv)
    if "config" not in values:
        return
    config = _read_config(values["config"])
    for name, value in values.items():
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
            raise InputError(config_schema.unknown_field(path, field.keys()))
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
