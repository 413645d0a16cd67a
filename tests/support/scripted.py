"""Data sets, metrics and methods that replace a run's scores or losses with chosen values."""

import dataclasses

from akd_jax import data, methods, metrics
from akd_jax.types import Method, Stage, Task


def use_scripted_scores(monkeypatch, config, scores):
    """Makes a run's metric return `scores`, in the order in which models are evaluated.

    A run evaluates the validation split after each epoch. At the end it evaluates the test
    split twice: for the best student and for the last one.
    """
    source = data.DATASETS["digits"](None)
    task = Task(source.task.labels, metrics=("scripted",))
    remaining = iter(scores)
    monkeypatch.setitem(
        data.DATASETS, "scripted", lambda data_dir: dataclasses.replace(source, task=task)
    )
    monkeypatch.setitem(metrics.METRICS, "scripted", lambda labels, predictions: next(remaining))
    config.dataset.name = "scripted"


def use_loss(monkeypatch, config, loss, **options):
    """Makes a run train a single stage 'custom' with `loss`."""

    def build(settings):
        stage = Stage(
            "custom", settings.student.epochs, loss, settings.student.optimizer, **options
        )
        return Method("custom", (stage,))

    monkeypatch.setitem(methods.METHODS, "custom", build)
    config.method = "custom"
