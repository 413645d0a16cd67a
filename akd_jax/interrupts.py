"""A request to stop, such as the notice of a preemption, that is heard between two steps.

A launcher listens; the loop looks whether something was heard, saves what it has, and raises
StoppedError. Where nobody listens, signals do what they always do.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from akd_jax.errors import StoppedError

_heard = threading.Event()


@contextlib.contextmanager
def listen(number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Hears a signal while the context lasts; a second one ends the process as it always does.

    Only Python's main thread can listen.
    """
    before = signal.getsignal(number)

    def hear(received: int, frame: FrameType | None) -> None:
        del received, frame
        _heard.set()
        signal.signal(number, before)

    signal.signal(number, hear)
    try:
        yield
    finally:
        signal.signal(number, before)
        _heard.clear()


def heard() -> bool:
    """Whether somebody asked to stop."""
    return _heard.is_set()


def check(label: str) -> None:
    """Raises StoppedError where somebody asked to stop; the message says that `label` was."""
    if heard():
        raise StoppedError(
            f"{label}: stopped by a signal, with everything saved; the same command goes on"
        )
