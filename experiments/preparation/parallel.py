"""Work on many items with all cores, which shows its progress and can be stopped."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from akd_jax.host import interrupts
from akd_jax.host.writers import ProgressBar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_PART = 64  # Items that are begun together; after an error or a stop, these are finished.


def run(
    function: Callable[[_Item], _Result], items: Sequence[_Item], label: str
) -> Iterator[_Result]:
    """Yields function(item) for each item, in order. One thread per core computes them.

    Args:
      function: releases Python's lock for most of its time, such as by waiting for a program.
      items: the items.
      label: the name of the work, for the progress bar and the message of a stop.

    Raises:
      StoppedError: a stop was requested.
    """
    bar = ProgressBar(label, total=len(items))
    try:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for start in range(0, len(items), _PART):
                for result in pool.map(function, items[start : start + _PART]):
                    interrupts.raise_if_stop_requested(label)
                    bar.update(1, lambda: "")
                    yield result
    finally:
        bar.close()
