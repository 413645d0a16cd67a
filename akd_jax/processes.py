"""Several processes that train one student: how they find each other, agree, and part.

Each process drives the devices of its machine. All of them run the same program on their
share of each batch; the first one, the primary, reads and writes the run's folder, and the
others hear from it what was found there. So they cannot come to see different things, and
only the primary needs the folder to be in reach.
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

from akd_jax.errors import InputError

_T = TypeVar("_T")

# A process that was killed is missed after this time, and all others end.
_HEARTBEAT_SECONDS = 30
# How long one that fails waits for the others to fail too, as they do at a wrong flag.
_PARTING_SECONDS = 5.0

_on_primary = threading.local()


def in_cluster() -> bool:
    """Whether what started this process says that it is one of several: Slurm's srun, an
    indexed Job of Kubernetes such as GKE's, or a Cloud TPU machine, which may be part of a pod.
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
    """Joins the other processes; before anything else is done with JAX.

    Args:
      coordinator_address: HOST:PORT of process 0, the same on all; None: found by JAX, as are
        the others, from what `in_cluster` looks at. Where JAX finds none, this process is alone.
      num_processes: of the run.
      process_id: of this one, from 0.

    Raises:
      InputError: the others were not found, or the arguments do not fit.
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
            return  # There is no cluster, such as where libtpu is installed and no TPU.
        reason = str(error).splitlines()[0]
        raise InputError(
            "expected to find the other processes, by --coordinator_address, --num_processes and"
            f" --process_id or in the environment, got: {reason}; correct the flags, or train on"
            " this machine alone with --distributed=off"
        ) from None


def count() -> int:
    """The number of processes."""
    return jax.process_count()


def is_primary() -> bool:
    """Whether this is the process that reads and writes files for all."""
    return jax.process_index() == 0


def on_primary(function: Callable[[], _T]) -> _T:
    """Calls a function in the primary process, and returns its result in all.

    All processes must come here, in the same order. Where there is only one, and within
    another such function, it is simply called.

    Args:
      function: its result must be what JSON can hold.

    Raises:
      InputError: in all processes, where the function raised it.
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
    """The primary process's values of a tree of NumPy arrays, to the last bit, in all processes.

    Args:
      tree: in the other processes, arrays of the same shapes and types.
    """
    if count() == 1:
        return tree
    # As bytes: JAX adds up zeros of the others, which would lose the sign of a zero.
    raw = jax.tree.map(lambda x: np.ascontiguousarray(x).reshape(-1).view(np.uint8), tree)
    sent = multihost_utils.broadcast_one_to_all(raw)
    return jax.tree.map(
        lambda x, found: np.array(found).view(np.asarray(x).dtype).reshape(np.shape(x)), tree, sent
    )


def gather(rows: np.ndarray) -> np.ndarray:
    """The rows of all processes, each of as many [N, ...], one process's after another's."""
    return rows if count() == 1 else multihost_utils.process_allgather(rows, tiled=True)


def exit_process(code: int) -> NoReturn:
    """Ends a process that failed; never waits long for the others.

    Those that fail too are waited for, so that each can say why. Others miss this one after a
    while, and end by themselves.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    waiting = threading.Timer(_PARTING_SECONDS, os._exit, (code,))
    waiting.daemon = True
    waiting.start()
    jax.distributed.shutdown()
    os._exit(code)


def _broadcast_json(value: Any) -> Any:
    """The primary process's value, in all."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(broadcast(np.int64(text.size)))
    # Filled up to a power of two, so that few programs are compiled.
    padded = np.full(1 << (size - 1).bit_length(), ord(" "), np.uint8)
    if is_primary():
        padded[:size] = text
    return json.loads(broadcast(padded).tobytes().decode())
