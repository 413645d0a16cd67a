"""Child processes for tests; each has two virtual devices."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUARD_SECONDS = 600  # Only stops a test that hangs; no test waits this long on purpose.


def free_port() -> int:
    """Returns a free port below the range from which the system assigns ports.

    Until a child process binds it, no other program receives it by chance.
    """
    numbers = random.SystemRandom()  # Not seeded: two test sessions must draw different ports.
    while True:
        port = numbers.randrange(20_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def launch(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Starts Python with the strict settings of the tests.

    Standard error is merged into standard output.
    """
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "NPROC": "16",  # See conftest.py.
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_NUMPY_DTYPE_PROMOTION": "strict",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            **environment,
        },
    )


@contextlib.contextmanager
def start_python(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Like `launch`, for one process that is killed when the context ends, or if it hangs."""
    with launch(*arguments) as process:
        guard = threading.Timer(GUARD_SECONDS, process.kill)  # Ends a read from its output.
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def wait_for_line(process: subprocess.Popen[str], expected: str) -> None:
    """Reads the output of a process up to a line; fails if the process ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip("\n") == expected:
            return
    raise AssertionError(f"expected the line {expected!r}, got: {''.join(lines)}")


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Waits until all processes have ended; returns their outputs.

    Kills the processes if one of them hangs.
    """
    try:
        return [process.communicate(timeout=GUARD_SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
