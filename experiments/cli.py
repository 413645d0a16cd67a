"""What the launchers share: flags in, a line per error out."""

import ctypes
import errno
import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jaxlib.version
from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from akd_jax import interrupts, processes
from akd_jax.config import unknown_field
from akd_jax.errors import DivergedError, InputError, StoppedError
from akd_jax.files import Path, as_path, not_writable
from experiments import cluster

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # Of glibc's malloc.h.
_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type"


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


def path(flag: flags.FlagHolder) -> Path:
    """The path that a flag says."""
    return as_path(flag.value or "")


def launch(
    main: Callable[[], None], *, required: Sequence[str], several_processes: bool = False
) -> None:
    """Parses the flags and runs `main`.

    Wrong flags, InputError and DivergedError end the process with one line and code 1. A
    SIGTERM, the notice of a preemption, ends it with one line and code 75 (EX_TEMPFAIL: the
    same command goes on) when what was trained is saved; so does the loss of another process.

    Args:
      main: what the launcher is for.
      required: names of the flags that must be given.
      several_processes: whether it can be one of several, by --coordinator_address,
        --num_processes and --process_id, or as found in the environment.
    """
    flags.mark_flags_as_required(list(required))
    if several_processes:
        cluster.define_flags()

    def guarded(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            fail(f"expected flags only, got {argv[1]!r}; write it as --flag=value")
        try:
            several = several_processes and cluster.wanted()
        except InputError as error:
            fail(str(error))
        set_up_jax()
        if several:
            cluster.join(lambda: _guard(main), report=_report)
        ending = _guard(main)
        if ending[0]:
            _report(ending)
            sys.exit(ending[0])

    app.run(guarded, flags_parser=_parse_flags)


def _guard(main: Callable[[], None]) -> cluster.Ending:
    """Runs `main`; one error line of those that people are meant to read."""
    if not processes.is_primary():
        logging.set_verbosity(logging.ERROR)  # One process tells for all.
    try:
        with interrupts.listen():
            main()
    except StoppedError as error:
        return os.EX_TEMPFAIL, str(error)
    except (InputError, DivergedError) as error:
        return 1, str(error)
    except OSError as error:  # A report, say, on a disk that is full by now.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        return 1, str(not_writable(as_path(error.filename or "."), error))
    except KeyboardInterrupt:
        return 1, "interrupted; the same command goes on from the last checkpoint"
    return 0, ""


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints one line to standard error and ends the process with a code."""
    _report((code, message))
    sys.exit(code)


def _report(ending: cluster.Ending) -> None:
    print("error: " + " ".join(ending[1].split()), file=sys.stderr)


def print_on_primary(text: str) -> None:
    """Prints, in the primary process."""
    if processes.is_primary():
        print(text, flush=True)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
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
        if "config" in flags.FLAGS and flags.FLAGS["config"].present:
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


def set_up_jax() -> None:
    """Sets what makes JAX faster, wherever the environment does not say otherwise. To be called
    before anything runs on a device.

    - Compiled programs are kept in the user's cache folder, for the next run of the same ones.
    - On CPU, convolutions are Eigen's. XLA's choice is YNNPACK, which takes two to four times as
      long for their gradients (measured with jaxlib 0.10.2 and 0.12.0).
    - On CPU, memory that was freed is kept for the next step.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "akd_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if _cpu_alone():
        _keep_freed_memory()
    given = os.environ.get("XLA_FLAGS", "").strip()
    in_file = given and not given.startswith("-")  # Then that is the file's path.
    # A flag that XLA does not know ends the process.
    known = jaxlib.version.__version_info__[:2] <= (0, 12)
    if known and not in_file and _YNNPACK not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_YNNPACK}=-individual_convolution".strip()


def _cpu_alone() -> bool:
    """Whether JAX will run on CPU, as far as can be known before it starts."""
    platforms = getattr(jax.config, "jax_platforms", None)
    if platforms:
        return bool(platforms == "cpu")
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None


def _keep_freed_memory() -> None:
    """Tells glibc to keep what is freed, and to have one heap for all threads.

    XLA takes the memory of a step anew each time. glibc maps what is larger than 32 MB, and gives
    it back when it is freed; to fill its pages with zeros again takes the system 15 to 30 % of a
    step. Kept, it can be twice as much, where the next step's does not fit into what was left.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if told or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_ARENA_MAX, 1)
