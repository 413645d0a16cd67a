"""Trains the small run and kills the process during an evaluation.

python -m tests.support.killed_run WORKDIR TEACHER EVALUATION
"""

import os
import signal
import sys
from pathlib import Path

from akd_jax import metrics, runs
from tests.support.configs import small_config


def main(workdir: str, teacher_path: str, evaluation: str) -> None:
    """Kills the process when it computes its metric for the given time, counted from 1."""
    accuracy, remaining = metrics.METRICS["accuracy"], int(evaluation)

    def deadly_accuracy(labels, predictions):
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return accuracy(labels, predictions)

    metrics.METRICS["accuracy"] = deadly_accuracy
    config = small_config()
    config.teacher.path = teacher_path
    runs.run(config, Path(workdir))


if __name__ == "__main__":
    main(*sys.argv[1:])
