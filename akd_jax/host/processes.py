"""Multi-process training: start-up, communication through the primary process, and shutdown.

On a TPU pod or a GPU cluster, one process runs on each machine and drives its local devices.
All processes run the same code, each on its own part of every batch.

Files: only the primary process (number 0) reads and writes the run's folder. It broadcasts what
it has read, so all processes see the same values, and only the primary needs access to the
folder.

Failures: JAX's coordination service, which runs in the primary process, detects the loss of a
process by missed heartbeats and then ends all others. After a restart of all processes, the run
resumes from the last checkpoint.
"""

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from akd_jax.host.errors import InputError

_T = TypeVar("_T")

# After this time without a sign of life, a process counts as lost, and all others end.
_HEARTBEAT_SECONDS = 30
# How long a failing process waits for the others. An error that all of them have, such as a
# wrong flag, lets each process report it in this time.
_SHUTDOWN_SECONDS = 5.0

_on_primary = threading.local()


def in_cluster() -> bool:
    """Whether the environment indicates that this process may be one of several.

    True under Slurm's srun with several tasks, in an indexed Job of Kubernetes (such as GKE's),
    and on a Cloud TPU machine, which may belong to a pod.
    """
    return (int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ) or bool(
        {"JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES"} & os.environ.keys()
        or importlib.util.find_spec("libtpu")
    )


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process with the other processes of the run.

    Call this before any other JAX function. If all arguments are None, JAX reads them from the
    environment that `in_cluster` describes; without such an environment, this process runs on
    its own.

    Args:
      coordinator_address: HOST:PORT of process 0, the same in all processes.
      num_processes: the number of processes of the run.
      process_id: the number of this process, from 0.

    Raises:
      InputError: the other processes were not found, or the arguments are not valid.
    """
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:  # JAX's own errors are RuntimeErrors.
        if coordinator_address is None and "coordinator_address should be" in str(error):
            return  # There is no cluster; for example, libtpu is installed without a TPU.
        reason = str(error).splitlines()[0]
        raise InputError(
            "expected to reach the other processes by --coordinator_address, --num_processes and"
            f" --process_id or by the environment, got: {reason}; correct the flags, or use only"
            " this machine with --distributed=off"
        ) from None


def count() -> int:
    """Returns the number of processes."""
    return jax.process_count()


def is_primary() -> bool:
    """Whether this is the process that reads and writes files for all processes."""
    return jax.process_index() == 0


def on_primary(function: Callable[[], _T]) -> _T:
    """Calls a function in the primary process, and returns its result in all processes.

    All processes must make the same calls in the same order. A nested call, inside `function`,
    runs only in the primary process and without communication.

    Args:
      function: returns a value that JSON can hold.

    Raises:
      InputError: `function` raised it; it is raised again in all processes.
    """
    if count() == 1 or getattr(_on_primary, "inside", False):
        return function()
    answer: dict[str, Any] = {}
    if is_primary():
        _on_primary.inside = True
        try:
            answer = {"result": function()}
        except InputError as error:
            answer = {"error": str(error)}
        finally:
            _on_primary.inside = False
    answer = _broadcast_json(answer)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["result"]


def broadcast(tree: Any) -> Any:
    """Returns the primary process's tree of NumPy arrays in all processes, bit for bit.

    Args:
      tree: the values; in the other processes, a tree with the same shapes and types.
    """
    if count() == 1:
        return tree
    # JAX broadcasts by adding zeros from the other processes, which would turn -0.0 into 0.0.
    # Bytes are not changed by that.
    data = jax.tree.map(lambda x: np.ascontiguousarray(x).reshape(-1).view(np.uint8), tree)
    received = multihost_utils.broadcast_one_to_all(data)
    return jax.tree.map(
        lambda x, y: np.array(y).view(np.asarray(x).dtype).reshape(np.shape(x)), tree, received
    )


def gather(rows: np.ndarray) -> np.ndarray:
    """Concatenates the rows [N, ...] of all P processes to [P * N, ...], in process order."""
    return rows if count() == 1 else multihost_utils.process_allgather(rows, tiled=True)


def exit_process(code: int) -> NoReturn:
    """Ends a failed process without a long wait for the others.

    Processes that fail at the same time get a few seconds to report their errors. The others
    detect the loss of this process later, and end then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    timer = threading.Timer(_SHUTDOWN_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()
    jax.distributed.shutdown()  # Waits for the other processes.
    os._exit(code)


def _broadcast_json(value: Any) -> Any:
    """Returns the primary process's value in all processes."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(broadcast(np.int64(text.size)))
    # Padded with spaces to a power of two: each size needs a compiled program.
    padded = np.full(1 << (size - 1).bit_length(), ord(" "), np.uint8)
    if is_primary():
        padded[:size] = text
    return json.loads(broadcast(padded).tobytes().decode())


def describe_devices() -> dict[str, Any]:
    """Describes the devices of all processes, for the records of a run."""
    return {
        "kind": jax.devices()[0].device_kind,
        "count": jax.device_count(),
        "processes": jax.process_count(),
    }
