"""A loss with terms per example and per token and a projector: one step, and a whole run."""

import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from akd_jax import methods, runs
from akd_jax.models.network import Model
from akd_jax.runs.stages import build_run
from experiments.export import export_network
from tests.support import combined
from tests.support.killing import kill_at_evaluation
from tests.support.runs import assert_trees_equal, read_checkpoint, read_metrics, without_times
from tests.support.steps import (
    arrays,
    assert_close,
    means,
    update_on_four,
    update_on_one,
    with_optimizer,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = tmp_path_factory.mktemp("texts")
    combined.write(folders)
    return folders


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "combined", combined.SPEC)


@pytest.fixture(scope="module")
def stage(folders):
    """The stage of the method with SGD, and three batches; the last one is padded."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(methods.METHODS, "combined", combined.SPEC)
        plan = runs.make_plan(combined.combined_config(folders))
    student, teacher = (
        Model(
            network.initial_variables(jax.random.key(number), plan.dataset.example), network.apply
        )
        for number, network in enumerate((plan.student, plan.teachers["teacher"]))
    )
    run = build_run(
        plan,
        plan.method.stages[0],
        student,
        {"teacher": teacher},
        plan.dataset.splits["train"],
        {},
        key=jax.random.key(2),
        seed=0,
        views=0,
    )
    sgd = optax.sgd(1e-2, momentum=0.9)
    state = with_optimizer(run.state, sgd)
    batches = sorted(run.train.epoch(), key=lambda batch: -batch.weights.sum())[-3:]
    assert 0 < np.sum(batches[-1].weights == 0) < len(batches[-1].weights)
    return state, run.teachers, batches


def test_every_term_is_recorded_with_its_scale(stage):
    state, teachers, batches = stage
    _, metrics = update_on_one(state, teachers, batches)
    records = [means(step) for step in metrics]
    assert [record["ce_scale"] for record in records] == [1.0, 0.875, 0.75]
    cosine = [0.25 * (1 + np.cos(np.pi * step / 6)) for step in range(3)]
    np.testing.assert_allclose([record["kl_scale"] for record in records], cosine, rtol=1e-6)
    assert [record["hint_scale"] for record in records] == [2.0, 2.0, 2.0]
    for record in records:
        total = sum(record[name] * record[f"{name}_scale"] for name in ("ce", "kl", "hint"))
        np.testing.assert_allclose(record["loss"], total, rtol=1e-5)
    assert "hint" in str(jax.tree.structure(state.params["loss"]))


def test_four_devices_equal_one(stage):
    state, teachers, batches = stage
    one, _ = update_on_one(state, teachers, batches)
    four, _ = update_on_four(state, teachers, batches)
    assert_close(arrays(four), arrays(one), 1e-6)


def test_two_accumulated_parts_equal_one_batch(stage):
    state, teachers, batches = stage
    one, _ = update_on_one(state, teachers, batches)
    parts, _ = update_on_one(state.replace(grad_accumulation_steps=2), teachers, batches)
    assert_close(arrays(parts), arrays(one), 1e-6)


def test_rows_of_weight_0_change_nothing(stage):
    state, teachers, batches = stage
    *_, padded = batches
    real = padded.weights > 0
    other = jax.tree.map(
        lambda x: np.where(real.reshape(-1, *[1] * (x.ndim - 1)), x, x[:1]), padded
    ).replace(weights=padded.weights)
    assert (jax.tree.leaves(other.inputs)[0] != jax.tree.leaves(padded.inputs)[0]).any()
    expected, _ = update_on_one(state, teachers, [padded])
    actual, _ = update_on_one(state, teachers, [other])
    assert_close(arrays(actual), arrays(expected), 1e-6)
    shorter = jax.tree.map(lambda x: x[real], padded)
    actual, _ = update_on_one(state, teachers, [shorter])
    assert_close(arrays(actual), arrays(expected), 1e-6)


@pytest.mark.slow  # tests/methods kills runs whose losses have parameters, too.
def test_killed_run_resumes_and_exports_no_projector(folders, tmp_path, monkeypatch):
    config = combined.combined_config(folders)
    with kill_at_evaluation(monkeypatch, 5):
        runs.run(config, tmp_path / "killed")
    trained = [record["epoch"] for record in read_metrics(tmp_path / "killed")]
    assert 0 < len(trained) < 3, "expected a kill between two epochs"
    for workdir in (tmp_path / "killed", tmp_path / "undisturbed"):
        runs.run(config, workdir)
    one, other = tmp_path / "killed", tmp_path / "undisturbed"
    assert [*map(without_times, read_metrics(one))] == [*map(without_times, read_metrics(other))]
    checkpoints = [read_checkpoint(path / "student" / "combined") for path in (one, other)]
    assert_trees_equal(*checkpoints)
    assert jax.tree.leaves(checkpoints[0]["state"]["params"]["loss"])

    export_network(one, "safetensors", tmp_path / "exported")
    tensors = load_file(tmp_path / "exported" / "model.safetensors")
    student = load_file(folders / "bert" / "model.safetensors").keys()
    assert tensors.keys() < student  # The student has every second layer of the teacher.
    # The kernels of the projector, [16, 16], would make it larger than the student.
    best = checkpoints[0]["best"]["params"]
    assert sum(x.size for x in tensors.values()) == sum(x.size for x in jax.tree.leaves(best))
