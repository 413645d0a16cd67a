"""Metrics and methods that replace a run's scores or losses with chosen ones."""

import dataclasses

import numpy as np

from akd_jax import data, methods, metrics
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from akd_jax.types import Task
from tests.support.recorder import RecordingLoss


def use_scripted_scores(monkeypatch, config, scores):
    """Makes a run's metric return `scores`, in the order in which models are evaluated.

    A run evaluates the validation split after each epoch. At the end it evaluates the test
    split twice: for the best student and for the last one. After the end of `scores` the metric
    is the accuracy.
    """
    source = data.DATASETS["digits"](None)
    task = Task(source.task.labels, metrics=("scripted",))
    remaining = iter(scores)

    def scripted(labels, predictions):
        return next(remaining, float(np.mean(labels == predictions)))

    monkeypatch.setitem(
        data.DATASETS, "scripted", lambda data_dir: dataclasses.replace(source, task=task)
    )
    monkeypatch.setitem(metrics.METRICS, "scripted", scripted)
    config.dataset.name = "scripted"


def use_method(monkeypatch, config, build, *, section=None, reads=()):
    """Makes a run use the method that `build(settings, task)` returns.

    Args:
      section: the class of the section `custom` of the configuration, if the method has one.
      reads: the names of other methods whose sections it reads.
    """
    monkeypatch.setitem(methods.METHODS, "custom", methods.MethodSpec(build, section, reads))
    config.method = "custom"


def use_loss(monkeypatch, config, loss, *, stages=1, teachers=(), **options):
    """Makes a run train with `loss`, in stages of equal length that start from each other.

    The recipe of the teacher 'teacher' is in the configuration. Further arguments are fields of
    every `Stage`.
    """

    def build(settings, task):
        epochs, optimizer = settings.student.epochs // stages, settings.student.optimizer
        recording = isinstance(loss, RecordingLoss)
        return Method(
            "custom",
            tuple(
                Stage(
                    f"custom_{number}",
                    epochs,
                    loss.in_stage(number * epochs) if recording else loss,
                    optimizer,
                    start=f"custom_{number - 1}" if number else None,
                    teachers=teachers,
                    **options,
                )
                for number in range(stages)
            ),
            default_teacher(settings) if teachers else {},
        )

    use_method(monkeypatch, config, build)
