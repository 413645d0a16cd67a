"""A launcher as one of several processes: which one it is, and how it ends.

When one process of several is lost, JAX ends the others from C++, in the middle of whatever
they do and without a word of Python's. So the process that was launched only starts a child,
which trains, passes a SIGTERM on to it, and says in a line how it ended.
"""

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import jax
from absl import flags

from akd_jax import processes
from akd_jax.errors import InputError

_CHILD = "AKD_JAX_CHILD"  # In the environment of the process that trains.
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG.
_OWN_FAULTS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT")  # They would come again.
_GO_ON = "start all processes again with the same command, to go on from the last checkpoint"

Ending = tuple[int, str]  # The code that a process ends with, and what to say where it is not 0.


def define_flags() -> None:
    """--distributed, --coordinator_address, --num_processes and --process_id."""
    if "coordinator_address" in flags.FLAGS:
        return
    flags.DEFINE_enum(
        "distributed", "auto", ["auto", "off"], "Whether to look for other processes, as on a pod."
    )
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, the same for all.")
    flags.DEFINE_integer("num_processes", None, "Processes of the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)


def wanted() -> bool:
    """Whether this is one of several processes.

    Raises:
      InputError: only some of the flags are given.
    """
    values = flags.FLAGS
    given = [values[name].value is not None for name in ("num_processes", "process_id")]
    if values.coordinator_address is None and not any(given):
        return values.distributed == "auto" and processes.in_cluster()
    if values.coordinator_address is None or not all(given):
        raise InputError(
            "expected --coordinator_address, --num_processes and --process_id together, got only"
            " some of them; give all three, or none where the cluster says them"
        )
    return True


def join(main: Callable[[], Ending], report: Callable[[Ending], None]) -> NoReturn:
    """Runs `main` as one of several processes, in a child.

    Args:
      main: what is run; how it ended.
      report: says an ending that is not 0.
    """
    if _CHILD not in os.environ:
        ending = _supervise()
        if ending[1]:
            report(ending)
        sys.exit(ending[0])
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
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
        if reason.startswith(_OWN_FAULTS):
            code, message = (
                1,
                f"{reason}; lower config.batch_size, or raise config.grad_accumulation_steps",
            )
        else:
            message = f"lost another process, or a device: {reason}; {_GO_ON}"
            report((os.EX_TEMPFAIL, f"{name}: {message}"))
            processes.exit_process(os.EX_TEMPFAIL)
    except Exception:
        traceback.print_exc()
        code, message = 1, "failed as said above, which is a fault of the program"
    if code:
        report((code, f"{name}: {message}"))
    if code in (0, os.EX_TEMPFAIL):
        sys.exit(code)  # Together with all others.
    processes.exit_process(code)


def _supervise() -> Ending:
    """Runs this very command in a child, and waits for its end."""
    child = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env={**os.environ, _CHILD: "1"})

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The terminal sends it to the child, too.
    code = child.wait()
    if code >= 0:
        return code, ""  # It has said what there is to say.
    if code == -signal.SIGABRT:
        return os.EX_TEMPFAIL, f"another process was lost, and this one with it; {_GO_ON}"
    return os.EX_TEMPFAIL, f"ended by {signal.Signals(-code).name}; {_GO_ON}"
