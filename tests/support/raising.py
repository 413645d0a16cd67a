"""experiments.train, whose second process raises in the middle of an epoch."""

import itertools

import jax

from akd_jax import interrupts
from experiments import cli, train

_stop_requested, _looks = interrupts.stop_requested, itertools.count(1)


def stop_requested() -> bool:
    if jax.process_index() == 1 and next(_looks) > 30:
        raise RuntimeError("something that nobody expected")
    return _stop_requested()


if __name__ == "__main__":
    interrupts.stop_requested = stop_requested
    cli.launch(train.main, required=["config", "workdir"], several_processes=True)
