"""A separate process that measures PyTorch.

PyTorch's threads spin for a while after each operation. In one process with JAX they would take the
cores of the next measurement, and the memory that PyTorch frees would slow down JAX's allocations.
"""

import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from akd_jax.host.errors import InputError

_PAUSE = 0.5  # Seconds after which PyTorch's threads sleep.


@contextlib.contextmanager
def torch_process(suite: str, module: str) -> Iterator[Callable[[str], float]]:
    """Starts a module that answers each line of its standard input with seconds.

    Yields:
      A function that sends a request of one line and returns the seconds of the answer.

    Raises:
      InputError: PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"--suite={suite}: expected torch and transformers, got none; install"
            " requirements-dev.txt"
        )
    with subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def seconds(request: str) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            print(request, file=process.stdin, flush=True)
            answer = float(process.stdout.readline())
            time.sleep(_PAUSE)
            return answer

        yield seconds
        process.terminate()
