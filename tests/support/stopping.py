"""Stops a run at a chosen step."""

import contextlib
import itertools
from collections.abc import Iterator

from akd_jax.host import interrupts


@contextlib.contextmanager
def stop_at_check(number: int) -> Iterator[None]:
    """Requests a stop at the given check of a run, counted from 1, and at all later ones.

    A run checks before each step, after each epoch and before each batch of an evaluation. This
    replaces a function of the package, because a real signal would arrive at a random step.
    """
    original, checks = interrupts.stop_requested, itertools.count(1)
    interrupts.stop_requested = lambda: next(checks) >= number
    try:
        yield
    finally:
        interrupts.stop_requested = original
