"""A request to stop, such as the notice of a preemption, that is heard between two steps.

A launcher listens; the loop looks whether something was heard, saves what it has, and raises
StoppedError. Where nobody listens, signals do what they always do. Of several processes, all
hear what one of them was told, and stop before the same step.
"""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils

from akd_jax import processes
from akd_jax.errors import StoppedError

_stop_requested = threading.Event()
_looks = itertools.count()  # As many in each process.


@contextlib.contextmanager
def listen(number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Hears a signal while the context lasts; a second one ends the process as it always does.

    Only Python's main thread can listen. Of several processes JAX hears SIGTERM, and no other
    signal.
    """
    if processes.count() > 1:
        yield
        return
    before = signal.getsignal(number)

    def hear(received: int, frame: FrameType | None) -> None:
        del received, frame
        _stop_requested.set()
        signal.signal(number, before)

    signal.signal(number, hear)
    try:
        yield
    finally:
        signal.signal(number, before)
        _stop_requested.clear()


def stop_requested() -> bool:
    """Whether somebody asked to stop.

    All processes must look as often; the answer is yes in all of them from the same look on.
    """
    if processes.count() > 1 and multihost_utils.reached_preemption_sync_point(next(_looks)):
        _stop_requested.set()
    return _stop_requested.is_set()


def raise_if_stop_requested(label: str) -> None:
    """Raises StoppedError where somebody asked to stop; the message says that `label` was."""
    if stop_requested():
        raise StoppedError(
            f"{label}: stopped by a signal, with everything saved; the same command goes on"
        )
