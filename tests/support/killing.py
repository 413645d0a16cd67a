"""Ends a run in this process as abruptly as a kill."""

import contextlib

import pytest

from akd_jax import metrics


class Killed(BaseException):
    """Ends a run; the package does not know it, so that nothing is saved."""


@contextlib.contextmanager
def kill_at_evaluation(monkeypatch, number):
    """Ends a run when it computes its accuracy for the given time, counted from 1.

    A run evaluates the validation split after each epoch. A finished teacher is not evaluated.
    """
    accuracy, remaining = metrics.METRICS["accuracy"], number

    def deadly_accuracy(labels, predictions):
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            raise Killed
        return accuracy(labels, predictions)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setitem(metrics.METRICS, "accuracy", deadly_accuracy)
        yield
