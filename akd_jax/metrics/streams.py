"""Scores of a stream of tasks, from the scores on all tasks so far after each task.

R[n, j] is the score on task j after task n, for j <= n. A matrix is a list with a row for each n,
whose row n has the entries R[n, 1] ... R[n, n].
"""

from collections.abc import Sequence

import numpy as np

Matrix = Sequence[Sequence[float]]


def learning_accuracy(matrix: Matrix) -> float:
    """Returns the mean over tasks n of R[n, n], the score right after the task was learned.

    Source: Riemer et al., ICLR 2019, https://arxiv.org/abs/1810.11910.
    """
    return float(np.mean([row[-1] for row in matrix]))


def forgetting(matrix: Matrix) -> float:
    """Returns the mean over the tasks j before the last one of max_n R[n, j] - R[N, j].

    It is 0 for a stream of one task. The maximum is that over n from j to N.

    Source: Chaudhry et al., ECCV 2018, https://arxiv.org/abs/1801.10112, where n goes to N - 1.
    """
    columns = [[row[task] for row in matrix[task:]] for task in range(len(matrix) - 1)]
    return float(np.mean([max(column) - column[-1] for column in columns])) if columns else 0.0
