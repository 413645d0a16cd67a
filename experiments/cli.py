"""What the launchers share: flags in, a line per error out."""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags
from ml_collections import config_dict, config_flags

from akd_jax import interrupts
from akd_jax.config import unknown_field
from akd_jax.errors import DivergedError, InputError, StoppedError


# Cached, since a flag can be defined only once, and several launchers can be imported.
@functools.cache
def config_flag() -> flags.FlagHolder:
    """--config=FILE[:ARGUMENT], with its overrides --config.FIELD=VALUE."""
    return config_flags.DEFINE_config_file(
        "config", None, "A file such as configs/digits.py:annealing_kd.", lock_config=True
    )


@functools.cache
def workdir_flag() -> flags.FlagHolder:
    """--workdir=DIR."""
    return flags.DEFINE_string("workdir", None, "Folder of the run or comparison.")


@functools.cache
def output_flag() -> flags.FlagHolder:
    """--output=PATH."""
    return flags.DEFINE_string("output", None, "The file, or folder, to write.")


def launch(main: Callable[[], None], *, required: Sequence[str]) -> None:
    """Parses the flags and runs `main`.

    Wrong flags, InputError and DivergedError end the process with one line and code 1. A
    SIGTERM, the notice of a preemption, ends it with one line and code 75 (EX_TEMPFAIL: the
    same command goes on) when what was trained is saved.
    """
    flags.mark_flags_as_required(list(required))

    def guarded(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            fail(f"expected flags only, got {argv[1]!r}; write it as --flag=value")
        _keep_compiled_programs()
        try:
            with interrupts.listen():
                main()
        except StoppedError as error:
            fail(str(error), code=os.EX_TEMPFAIL)
        except (InputError, DivergedError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on from the last checkpoint")

    app.run(guarded, flags_parser=_parse_flags)


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints one line to standard error and ends the process with a code."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned for the terminal: the first column left, the others right."""
    # At least two wide: Markdown's rule of a right-aligned column is '-:'.
    widths = [max(2, *map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        aligned = [first.ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return "| " + " | ".join(aligned) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(headers), line(rule), *map(line, rows)])


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            _ = flags.FLAGS.config.method  # Raises OSError where the file was not read.
    # Beside absl's own, ml_collections raises these for an override that fits no field.
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        fail(_config_problem(argv, error) or str(error))
    if flags.FLAGS["verbosity"].using_default_value:
        # Or absl would raise it to INFO, at which Orbax tells dozens of lines a checkpoint.
        flags.FLAGS["verbosity"].using_default_value = False
    return rest


def _config_problem(argv: Sequence[str], error: Exception) -> str | None:
    """What is wrong with --config or its overrides; None where they are not to blame."""
    given = _given(argv)
    if "config" not in given:
        return None
    try:
        config: Any = flags.FLAGS["config"].parser.parse(given["config"])
        _ = config.method
    except Exception as unread:  # The file is the user's code and can raise anything.
        reason = str(unread.__cause__ or unread).strip().splitlines()[-1]
        return (
            f"--config: expected a file such as configs/digits.py whose get_config returns a"
            f" ConfigDict, got {given['config']!r}: {reason}"
        )
    for name, value in given.items():
        if not name.startswith("config."):
            continue
        section: Any = config
        path = "config"
        for field in name.split(".")[1:]:
            if not isinstance(section, config_dict.ConfigDict):
                return f"{path}.{field}: unknown field; {path} is a value, not a section"
            path = f"{path}.{field}"
            if field not in section:
                return unknown_field(path, section.keys())
            section = section[field]
        if f"--{name}={value}:" in str(error):
            if isinstance(section, config_dict.ConfigDict):
                fields = ", ".join(section)
                return f"{path}: expected one of its fields, got the section; set {fields}"
            kind = type(section).__name__
            return f"{path}: expected a value of kind {kind}, as {section!r} is, got {value!r}"
    return None


def _given(argv: Sequence[str]) -> dict[str, str]:
    """Flag names to values, written --name=value or --name value."""
    given: dict[str, str] = {}
    name = ""
    for argument in argv[1:]:
        if argument.startswith("-"):
            name, _, value = argument.lstrip("-").partition("=")
            given[name] = value
        elif name and not given[name]:
            given[name] = argument
    return given


def _keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, for the next run of the same ones."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "akd_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
