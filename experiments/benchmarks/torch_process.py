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


def check_installed(suite: str, *packages: str) -> None:
    """Raises InputError if a package that a suite compares with is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--suite={suite}: expected the packages {', '.join(packages)}, got no"
            f" {', '.join(missing)}; install requirements-dev.txt"
        )


@contextlib.contextmanager
def torch_process(module: str, *arguments: str) -> Iterator[Callable[[str], float]]:
    """Starts a module that answers each line of its standard input with seconds.

    Args:
      module: the full name of the module.
      *arguments: its arguments on the command line.

    Yields:
      A function that sends a request of one line and returns the seconds of the answer. It raises
      RuntimeError if the process has ended.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def seconds(request: str) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            answer = ""
            with contextlib.suppress(BrokenPipeError):
                print(request, file=process.stdin, flush=True)
                answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(
                    f"{module}: expected the seconds of {request!r}, got the exit code"
                    f" {process.wait()}; read its output above"
                )
            time.sleep(_PAUSE)
            return float(answer)

        try:
            yield seconds
        finally:
            process.terminate()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # A request that was not read.
                process.stdin.close()
