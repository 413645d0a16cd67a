"""Runs experiments.train; one process of two is killed during its second evaluation.

KILLED_PROCESS=0 python -m tests.support.killed_launcher FLAGS
"""

import itertools
import os
import signal

import jax

from akd_jax import metrics
from experiments import cli, train

_original, _evaluations = metrics.METRICS["accuracy"], itertools.count(1)


def deadly_accuracy(labels, predictions):
    is_killed = jax.process_index() == int(os.environ["KILLED_PROCESS"])
    if is_killed and next(_evaluations) == 2:
        os.kill(os.getppid(), signal.SIGKILL)  # The launcher, which watches this process.
        os.kill(os.getpid(), signal.SIGKILL)
    return _original(labels, predictions)


if __name__ == "__main__":
    metrics.METRICS["accuracy"] = deadly_accuracy
    cli.launch(train.main, required=["config", "workdir"], several_processes=True)
