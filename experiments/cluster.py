"""Running a launcher as one of several processes.

When one process of several is lost, JAX aborts the others from C++, and no Python code runs. So
the process that the user launches is only a supervisor. It starts a child process that trains,
forwards SIGTERM to it, and reports in one line how it ended.
"""

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple, NoReturn

import jax
from absl import flags

from akd_jax.host import processes
from akd_jax.host.errors import InputError

EX_TEMPFAIL = 75  # os.EX_TEMPFAIL, which Windows does not define.

_CHILD = "AKD_JAX_CHILD"  # Environment variable that marks the child process.
_PR_SET_PDEATHSIG = 1  # From Linux's sys/prctl.h.
# These errors of JAX have their cause in this process, and a restart would repeat them.
_PERMANENT_ERRORS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT")
_RESTART = "run the same command again on all processes to resume from the last checkpoint"


class Outcome(NamedTuple):
    """How a process ends: its exit code, and an error message if the code is not 0."""

    code: int
    message: str = ""


def define_flags() -> None:
    """Defines --distributed, --coordinator_address, --num_processes and --process_id."""
    if "coordinator_address" in flags.FLAGS:
        return
    flags.DEFINE_enum(
        "distributed",
        "auto",
        ["auto", "off"],
        "Whether to detect the other processes of a cluster or pod.",
    )
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of process 0, the same for all processes."
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes of the run.", lower_bound=1)
    flags.DEFINE_integer(
        "process_id", None, "Number of this process, counted from 0.", lower_bound=0
    )


def is_requested() -> bool:
    """Returns whether this process is one of several, by its flags or its environment.

    Raises:
      InputError: only some of the flags are given.
    """
    values = flags.FLAGS
    given = [
        values[name].value is not None
        for name in ("coordinator_address", "num_processes", "process_id")
    ]
    if not any(given):
        return values.distributed == "auto" and processes.in_cluster()
    if not all(given):
        raise InputError(
            "expected --coordinator_address, --num_processes and --process_id together, got only"
            " some of them; give all three, or none on a cluster that is detected automatically"
        )
    return True


def join(main: Callable[[], Outcome], report: Callable[[str], None]) -> NoReturn:
    """Runs `main` as one of several processes, in a child process, and ends this process.

    Args:
      main: the function to run, after this process has joined the others.
      report: prints the message of an outcome whose code is not 0.
    """
    if _CHILD not in os.environ:
        outcome = _supervise()
        if outcome.message:
            report(outcome.message)
        sys.exit(outcome.code)
    _end_with_parent()
    name = "this process"
    try:
        processes.initialize(
            flags.FLAGS.coordinator_address, flags.FLAGS.num_processes, flags.FLAGS.process_id
        )
        name = f"process {jax.process_index()} of {jax.process_count()}"
        code, message = main()
    except InputError as error:
        code, message = 1, str(error)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        if not reason.startswith(_PERMANENT_ERRORS):
            report(f"{name}: lost another process or a device: {reason}; {_RESTART}")
            # A regular exit would wait for the lost process.
            processes.exit_process(EX_TEMPFAIL)
        code = 1
        message = f"{reason}; lower config.batch_size or raise config.grad_accumulation_steps"
    except Exception:
        traceback.print_exc()
        code, message = 1, "failed with the exception above, which is a bug in the program"
    if code:
        report(f"{name}: {message}")
    if code in (0, EX_TEMPFAIL):
        sys.exit(code)  # All processes end here, so a regular exit does not wait in vain.
    processes.exit_process(code)


def _end_with_parent() -> None:
    """Requests that the system kills this process when its supervisor dies; only on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _supervise() -> Outcome:
    """Runs the current command in a child process and waits for its end."""
    child = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env={**os.environ, _CHILD: "1"})

    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends SIGINT to the child as well.
    code = child.wait()
    if code >= 0:
        return Outcome(code)  # The child has reported its own error.
    if code == -signal.SIGABRT:
        return Outcome(EX_TEMPFAIL, f"another process was lost, which ended this one; {_RESTART}")
    return Outcome(EX_TEMPFAIL, f"ended by {signal.Signals(-code).name}; {_RESTART}")
