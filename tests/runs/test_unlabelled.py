"""Training examples without labels: losses of teachers read them, losses of labels do not."""

import dataclasses

import numpy as np
import pytest

from akd_jax import data, runs
from akd_jax.data import Examples
from akd_jax.runs import make_plan
from akd_jax.types import UNLABELLED, Task
from tests.support.networks import use_featured_networks
from tests.support.runs import read_metrics

LABELLED = np.arange(200) % 3 == 0


@pytest.fixture
def config(config, monkeypatch):
    """One batch per epoch, and a student that keeps its initial parameters."""
    use_featured_networks(monkeypatch, config, teacher=8, student=4)
    config.dataset.validation_size = 0
    config.batch_size = 200
    config.student.epochs = 1
    config.student.optimizer.learning_rate = 1e-60  # 0 in float32.
    return config


def use_partly_labelled(monkeypatch, config, task, labels, missing):
    """Registers 200 digits of which a third have a label."""
    source = data.DATASETS["digits"](None)
    first = source.train.take(np.arange(200))
    others = source.train.take(np.arange(200, 300))
    train = Examples(first.inputs, np.where(LABELLED, labels(first.labels), missing))
    partly = dataclasses.replace(
        source,
        train=train,
        validation=Examples(others.inputs, labels(others.labels)),
        test=Examples(source.test.inputs, labels(source.test.labels)),
        task=task or source.task,
    )
    config.dataset.name = "regression" if partly.task.regression else "classification"
    monkeypatch.setitem(data.DATASETS, config.dataset.name, lambda data_dir: partly)


def training_logits(config, workdir):
    """The labels of the training split, and the logits of student and teacher in float64."""
    train = make_plan(config).dataset.splits["train"]
    _, models = runs.load(workdir)
    return train.labels, {
        name: np.float64(model(train.inputs).logits) for name, model in models.items()
    }


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("method", ["kd", "scratch"])
def test_cross_entropy_reads_only_examples_with_a_label(config, tmp_path, monkeypatch, method):
    use_partly_labelled(monkeypatch, config, None, np.int32, np.int32(UNLABELLED))
    config.method = method
    runs.run(config, tmp_path)
    (line,) = read_metrics(tmp_path)
    labels, logits = training_logits(config, tmp_path)
    labelled = np.flatnonzero(labels != UNLABELLED)
    assert len(labelled) == LABELLED.sum()
    student = logits["student"]
    hard = -log_softmax(student)[labelled, labels[labelled]].mean()
    correct = (student.argmax(axis=-1) == labels)[labelled]
    assert line["train_accuracy"] == pytest.approx(correct.mean())
    if method == "scratch":
        assert line["train_loss"] == pytest.approx(hard, rel=1e-5)
        return
    t = config.kd.temperature
    log_p, log_q = log_softmax(logits["teacher"] / t), log_softmax(student / t)
    soft = t**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean()
    assert line["train_hard"] == pytest.approx(hard, rel=1e-5)
    assert line["train_soft"] == pytest.approx(soft, rel=1e-4)
    weight = config.kd.weight
    assert line["train_loss"] == pytest.approx((1 - weight) * hard + weight * soft, rel=1e-4)


def test_squared_error_reads_only_examples_with_a_number(config, tmp_path, monkeypatch):
    task = Task((), metrics=("pearson",))
    use_partly_labelled(monkeypatch, config, task, lambda x: np.float32(x) / 9, np.float32(np.nan))
    config.method = "kd"
    runs.run(config, tmp_path)
    (line,) = read_metrics(tmp_path)
    labels, logits = training_logits(config, tmp_path)
    labelled = ~np.isnan(labels)
    assert labelled.sum() == LABELLED.sum()
    student, teacher = logits["student"][:, 0], logits["teacher"][:, 0]
    hard = np.square(student - labels)[labelled].mean()
    assert line["train_hard"] == line["train_squared_error"] == pytest.approx(hard, rel=1e-5)
    assert line["train_soft"] == pytest.approx(np.square(student - teacher).mean(), rel=1e-5)
