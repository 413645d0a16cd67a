"""Runs experiments.train; the second process raises an unexpected error within an epoch."""

import itertools

import jax

from akd_jax.host import interrupts
from experiments import cli, train

_original, _checks = interrupts.stop_requested, itertools.count(1)


def stop_requested() -> bool:
    if jax.process_index() == 1 and next(_checks) > 30:
        raise RuntimeError("an unexpected error")
    return _original()


if __name__ == "__main__":
    interrupts.stop_requested = stop_requested
    cli.launch(train.main, required=["config", "workdir"], several_processes=True)
