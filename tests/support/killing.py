"""Kills a run, or ends one in this process as abruptly."""

import contextlib
import os
import signal

import pytest

from akd_jax import metrics
from akd_jax.host.writers import MetricWriter


class Killed(BaseException):
    """Ends a run; the package does not know it, so that nothing is saved."""


@contextlib.contextmanager
def kill_at_evaluation(monkeypatch, number):
    """Ends a run when it computes its accuracy for the given time, counted from 1.

    A run evaluates the validation split after each epoch. A finished teacher is not evaluated.
    """

    def end():
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setitem(metrics.METRICS, "accuracy", _accuracy_until(number, end))
        yield


def kill_process_at_evaluation(number):
    """Kills this process when it computes its accuracy for the given time, counted from 1."""

    def end():
        os.kill(os.getpid(), signal.SIGKILL)

    metrics.METRICS["accuracy"] = _accuracy_until(number, end)


def _accuracy_until(number, end):
    """Returns a metric that calls `end()` instead of its last evaluation."""
    accuracy, remaining = metrics.METRICS["accuracy"], number

    def deadly_accuracy(labels, predictions):
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            end()
        return accuracy(labels, predictions)

    return deadly_accuracy


@contextlib.contextmanager
def kill_at_record(monkeypatch, number):
    """Ends a run when it writes its record of an epoch for the given time, counted from 1.

    The writer is the only part that all stages use at the end of an epoch, before they save it.
    """
    write, remaining = MetricWriter.write, number

    def deadly_write(self, record):
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            raise Killed
        write(self, record)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MetricWriter, "write", deadly_write)
        yield
