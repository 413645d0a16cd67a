"""Trains the small run and kills the process during an evaluation.

python -m tests.support.killed_run WORKDIR TEACHER EVALUATION
"""

import sys
from pathlib import Path

from akd_jax import runs
from tests.support.configs import small_config
from tests.support.killing import kill_process_at_evaluation


def main(workdir: str, teacher_path: str, evaluation: str) -> None:
    """Kills the process when it computes its metric for the given time, counted from 1."""
    kill_process_at_evaluation(int(evaluation))
    config = small_config()
    config.teacher.path = teacher_path
    runs.run(config, Path(workdir))


if __name__ == "__main__":
    main(*sys.argv[1:])
