"""Requests to stop training between two steps, such as the preemption notice of a cloud machine.

A launcher calls `listen`, which catches a signal. The training loop calls `stop_requested`
before each step; after a request it saves a checkpoint and raises StoppedError. Without
`listen`, a signal has its usual effect. With several processes, a signal to any one of them
stops all of them before the same step.
"""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils

from akd_jax.host import processes
from akd_jax.host.errors import StoppedError

_stop_requested = threading.Event()
_sync_points = itertools.count()  # Numbers the calls of `stop_requested`, equal in all processes.


@contextlib.contextmanager
def listen(number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Treats a signal as a request to stop while the context lasts.

    Restores the previous handler at the first signal, so that a second one ends the process.
    Only Python's main thread can call this. With several processes this does nothing, because
    JAX itself catches SIGTERM in each of them.
    """
    if processes.count() > 1:
        yield
        return
    previous = signal.getsignal(number)

    def request_stop(received: int, frame: FrameType | None) -> None:
        del received, frame
        _stop_requested.set()
        signal.signal(number, previous)

    signal.signal(number, request_stop)
    try:
        yield
    finally:
        signal.signal(number, previous)
        _stop_requested.clear()


def stop_requested() -> bool:
    """Whether a stop was requested.

    With several processes, all of them must call this the same number of times. JAX chooses one
    call; from that call on, the result is true in every process.
    """
    if processes.count() > 1 and multihost_utils.reached_preemption_sync_point(next(_sync_points)):
        _stop_requested.set()
    return _stop_requested.is_set()


def raise_if_stop_requested(label: str) -> None:
    """Raises StoppedError if a stop was requested.

    Args:
      label: the name of what is stopped, for the message.
    """
    if stop_requested():
        raise StoppedError(
            f"{label}: stopped by a signal; saved progress is kept, run the same command to resume"
        )
