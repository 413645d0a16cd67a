"""experiments.train, whose second process raises in the middle of an epoch."""

import itertools

import jax

from akd_jax import interrupts
from experiments import cli, train

_heard, _looks = interrupts.heard, itertools.count(1)


def heard() -> bool:
    if jax.process_index() == 1 and next(_looks) > 30:
        raise RuntimeError("something that nobody expected")
    return _heard()


if __name__ == "__main__":
    interrupts.heard = heard
    cli.launch(train.main, required=["config", "workdir"], several_processes=True)
