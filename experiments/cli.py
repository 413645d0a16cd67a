"""The start and the end of every launcher: --help, one-line errors and exit codes."""

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from absl import app, flags, logging

from akd_jax.host import interrupts, processes
from akd_jax.host.errors import DivergedError, InputError, StoppedError
from akd_jax.host.files import as_path, not_writable
from akd_jax.host.writers import terminal
from akd_jax.runs import config as config_schema
from configs import default
from experiments import cluster, help, options
from experiments.cluster import EX_TEMPFAIL, Outcome
from experiments.jax_setup import set_up_jax

options.define_imports_flag()


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
    try:
        options.import_modules(sys.argv)
    except InputError as error:
        fail(str(error))
    if help.is_requested(sys.argv):
        _print_help(main, required, several_processes)
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


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    """Parses the flags; ends the process with one line if one of them is wrong."""
    try:
        return options.parse(argv)
    except InputError as error:
        fail(str(error))


def _print_help(
    main: Callable[[], None], required: Sequence[str], several_processes: bool
) -> NoReturn:
    """Prints the help text and ends the process."""
    try:
        text = _help_text(main, required, several_processes)
    except InputError as error:
        fail(str(error))
    try:
        print(text, flush=True)
    except BrokenPipeError:  # The reader, such as head, closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _help_text(main: Callable[[], None], required: Sequence[str], several_processes: bool) -> str:
    launcher = sys.modules[main.__module__]
    own_flags = flags.FLAGS.get_key_flags_for_module(launcher)
    config = None
    if "config" in (flag.name for flag in own_flags):
        config = config_schema.parse(options.read_config(sys.argv) or default.get_config())
    own_flags += flags.FLAGS.get_key_flags_for_module(sys.modules[__name__])
    if several_processes:
        own_flags += flags.FLAGS.get_flags_for_module(cluster)
    return help.text(launcher.__doc__ or "", own_flags, required, config)


def _run_main(main: Callable[[], None]) -> Outcome:
    """Runs `main` and turns expected errors into an exit code and a message."""
    if not processes.is_primary():
        logging.set_verbosity(logging.ERROR)  # Only the primary process prints progress.
    try:
        terminal.output = options.output()
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


def print_next(commands: Mapping[str, str]) -> None:
    """Prints what to try next.

    Args:
      commands: what each command does, with the command without 'python -m experiments.'.
    """
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  python -m experiments.{x}" for name, x in commands.items()]
    print_on_primary("\n".join(["", "Next:", *lines]))


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints an error as one line on standard error and ends the process with `code`."""
    _report(message)
    sys.exit(code)


def _report(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)


def print_on_primary(text: str) -> None:
    """Prints `text` in the primary process only; nothing with --quiet or --log_json."""
    if processes.is_primary() and terminal.output == "text":
        print(text, flush=True)
