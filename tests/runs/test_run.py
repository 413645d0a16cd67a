"""Whole runs: what they train, in which order, and what they write."""

import dataclasses
import functools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from akd_jax import losses, methods, runs, schedules
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.runs import make_plan
from akd_jax.runs.teachers import load_teacher
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from tests.support.recorder import RecordingLoss
from tests.support.runs import (
    assert_refused,
    assert_trees_equal,
    checkpoint_folder,
    read_checkpoint,
    read_metrics,
    read_progress,
    results_without_times,
    snapshot,
)
from tests.support.scripted import use_loss, use_method, use_scripted_scores


def test_run_writes_results_metrics_and_checkpoints(config, finished_run):
    results = records.read(finished_run / "results.json")
    assert results["method"] == "annealing_kd"
    assert results["dataset"] == "digits"
    assert results["devices"] == {"kind": "cpu", "count": 4, "processes": 1}
    stage_1, stage_2 = results["stages"]
    assert (stage_1["name"], stage_1["epochs"], stage_1["steps"]) == ("stage_1", 5, 25)
    assert (stage_1["temperatures"], stage_2["temperatures"]) == ([2, 1], [])
    assert (stage_1["traces"], stage_2["traces"]) == (1, 1)
    assert results["student"]["stage"] == "stage_2"
    assert results["student"]["validation"] == stage_2["best_validation"]
    assert results["teacher"]["test"] > 0.6
    assert results["student"]["test"] > 0.2  # Twice the score of guessing, after 50 small steps.

    recorded = records.read_config(finished_run)
    assert recorded["config"] == config.to_dict()
    for folder in ("teacher/scratch", "student/stage_1", "student/stage_2"):
        assert any((finished_run / folder).iterdir())
    assert (finished_run / "teacher/config.json").exists()
    assert any(finished_run.glob("events.*"))

    lines = read_metrics(finished_run)
    assert [line["step"] for line in lines] == list(range(5, 55, 5))
    assert [line["temperature"] for line in lines[:5]] == [2, 2, 1, 1, 1]
    assert [line["phi"] for line in lines[:5]] == [0.5, 0.5, 1.0, 1.0, 1.0]

    # An evaluation of the checkpoints gives the recorded scores.
    scores = runs.evaluate(finished_run, "test")
    assert scores["student"]["accuracy"] == results["student"]["test"]
    assert scores["teacher"]["accuracy"] == results["teacher"]["test"]


def test_best_epoch_is_the_last_one_with_the_highest_score(finished_run):
    lines = read_metrics(finished_run)
    for stage in ("stage_1", "stage_2"):
        scores = [line["validation_accuracy"] for line in lines if line["stage"] == stage]
        progress = read_progress(finished_run / "student" / stage)
        assert progress["best_validation"] == max(scores)
        assert progress["best_epoch"] == len(scores) - scores[::-1].index(max(scores))


def test_finished_run_returns_its_results_without_writing(config, finished_run):
    before = snapshot(finished_run)
    assert runs.run(config, finished_run) == records.read(finished_run / "results.json")
    changed = {path for path, time in snapshot(finished_run).items() if before[path] != time}
    assert changed <= {finished_run / ".lock"}


def test_finished_stages_are_not_trained_again(config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    results = records.read(workdir / "results.json")
    (workdir / "results.json").unlink()
    newest = [checkpoint_folder(workdir / "student" / name) for name in ("stage_1", "stage_2")]
    before = [snapshot(folder) for folder in newest]
    metrics = (workdir / "metrics.jsonl").read_text()
    again = runs.run(config, workdir)
    assert again["stages"] == results["stages"]  # With the same times.
    assert results_without_times(again) == results_without_times(results)
    assert (workdir / "metrics.jsonl").read_text() == metrics
    assert [snapshot(folder) for folder in newest] == before


def test_stages_after_a_retrained_stage_are_trained_again(config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    results = records.read(workdir / "results.json")
    (workdir / "results.json").unlink()
    shutil.rmtree(workdir / "student/stage_1")
    stage_2 = checkpoint_folder(workdir / "student/stage_2")
    before = snapshot(stage_2)
    again = runs.run(config, workdir)
    assert results_without_times(again) == results_without_times(results)
    assert checkpoint_folder(workdir / "student/stage_2") == stage_2
    assert snapshot(stage_2) != before
    assert len(read_metrics(workdir)) == 10


def test_best_and_last_student_are_not_confused(config, tmp_path, monkeypatch):
    config.method = "scratch"
    config.student.epochs = 3
    config.checkpoint_every = 1
    use_scripted_scores(monkeypatch, config, [0.1, 0.9, 0.2])
    results = runs.run(config, tmp_path)
    assert results["stages"][0]["best_epoch"] == 2
    assert results["student"]["validation"] == 0.9
    stage = tmp_path / "student/scratch"
    second, third = (read_checkpoint(stage, number) for number in (12, 18))
    assert_trees_equal(third["best"]["params"], second["state"]["params"]["student"])
    plan = make_plan(config)
    test = plan.dataset.splits["test"]
    accuracies = []
    for variables in (
        third["best"],
        {"params": third["state"]["params"]["student"], **third["state"]["model_state"]},
    ):
        logits = plan.student.apply(variables, test.inputs, train=False).logits
        accuracies.append(float(np.mean(logits.argmax(axis=-1) == test.labels)))
    assert accuracies[0] != accuracies[1]
    assert [results["student"]["test"], results["student"]["test_last"]] == pytest.approx(
        accuracies
    )


def test_stage_2_starts_from_the_best_student_of_stage_1(
    config, teacher_path, tmp_path, monkeypatch
):
    config.teacher.path = teacher_path
    config.student.epochs = 4
    config.annealing_kd.stage_1.epochs = 3
    config.student.optimizer.learning_rate = 1e-30  # Stage 2 keeps its initial parameters.
    use_scripted_scores(monkeypatch, config, [0.1, 0.9, 0.2])
    runs.run(config, tmp_path)
    stage_1, stage_2 = (read_checkpoint(tmp_path / f"student/stage_{n}") for n in (1, 2))
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-20)
    started = stage_2["state"]["params"]["student"]
    jax.tree.map(close, started, stage_1["best"]["params"])
    with pytest.raises(AssertionError):
        jax.tree.map(close, started, stage_1["state"]["params"]["student"])


def test_each_epoch_trains_once_on_each_example_in_its_own_order(config, tmp_path, monkeypatch):
    config.student.epochs = 4
    loss = RecordingLoss()
    use_loss(monkeypatch, config, loss, stages=2)
    results = runs.run(config, tmp_path)
    jax.effects_barrier()
    assert [stage["name"] for stage in results["stages"]] == ["custom_0", "custom_1"]
    assert loss.examples == {(epoch, i): 1 for epoch in range(4) for i in range(1000)}
    batches = {tuple(sorted(ids)) for _, ids in loss.batches}
    assert len(batches) == len(loss.batches) == 4 * 5 * 4  # Epochs, steps and devices.


def test_stages_can_start_from_the_initial_parameters(config, tmp_path, monkeypatch):
    def build(settings, task):
        def stage(name, learning_rate):
            update = {"learning_rate": learning_rate}
            optimizer = settings.student.optimizer.model_copy(update=update)
            return Stage(name, 1, supervised_loss, optimizer, start=None)

        return Method("custom", (stage("a", 1e-30), stage("b", 0.1), stage("c", 1e-30)))

    use_method(monkeypatch, config, build)
    runs.run(config, tmp_path)
    a, b, c = (read_checkpoint(tmp_path / "student" / name)["state"]["params"] for name in "abc")
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-20)
    jax.tree.map(close, a, c)
    with pytest.raises(AssertionError):
        jax.tree.map(close, a, b)


def test_custom_method_reads_the_teacher(config, teacher_path, tmp_path, monkeypatch):
    def mean_absolute_error(student, teachers, batch, clock):
        return abs(student.logits - teachers["teacher"].logits).mean(axis=-1)

    use_loss(monkeypatch, config, mean_absolute_error, teachers=("teacher",))
    config.student.epochs = 2
    config.teacher.path = teacher_path
    runs.run(config, tmp_path)
    first, second = (line["train_loss"] for line in read_metrics(tmp_path))
    assert second < first


def test_one_trace_serves_all_temperatures(config, teacher_path, tmp_path, monkeypatch):
    traces = []

    def loss(student, teachers, batch, clock, *, axis_name=None):
        if axis_name is not None:  # Not in the check of the shapes.
            traces.append(clock)
        return losses.cross_entropy(student.logits, batch.labels)

    temperature = schedules.temperature(20)
    use_loss(
        monkeypatch,
        config,
        loss,
        teachers=("teacher",),
        temperature_step=schedules.temperature_step(20, 20),
        schedules={"temperature": temperature, "phi": schedules.annealing_factor(20)},
    )
    config.teacher.path = teacher_path
    config.batch_size = 500
    config.student.epochs = 20
    (stage,) = runs.run(config, tmp_path)["stages"]
    assert stage["traces"] == len(traces) == 1
    assert stage["temperatures"] == list(range(20, 0, -1))
    assert [line["temperature"] for line in read_metrics(tmp_path)] == list(range(20, 0, -1))


def test_several_steps_per_program_equal_single_steps(config, teacher_path, tmp_path, finished_run):
    config.teacher.path = teacher_path
    config.steps_per_loop = 3
    results = runs.run(config, tmp_path)
    assert {stage["traces"] for stage in results["stages"]} == {2}
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        *(
            read_checkpoint(folder / "student/stage_2")["best"]
            for folder in (tmp_path, finished_run)
        ),
    )


@pytest.mark.slow  # tests/losses and tests/test_schedules.py compare the loss and the schedules.
def test_continuation_kd_with_a_step_and_no_margin_equals_annealing_kd(
    config, teacher_path, tmp_path, monkeypatch, finished_run
):
    config.teacher.path = teacher_path
    config.continuation_kd.psi = "step"
    config.continuation_kd.margin = 0.0

    def build(settings, task):
        # Stage 2 of the method is plain cross-entropy. Replace it with the whole loss at psi = 1.
        method = methods.METHODS["continuation_kd"].build(settings, task)
        stage_1, stage_2 = method.stages
        loss = losses.bind(losses.continuation, factor=1.0, psi=1.0, margin=0.0)
        stage_2 = dataclasses.replace(stage_2, loss=loss, teachers=("teacher",))
        return dataclasses.replace(method, stages=(stage_1, stage_2))

    use_method(monkeypatch, config, build)
    runs.run(config, tmp_path)
    assert_trees_equal(
        read_checkpoint(tmp_path / "student/stage_2"),
        read_checkpoint(finished_run / "student/stage_2"),
    )
    values, expected = (
        [line["train_loss"] for line in read_metrics(folder)] for folder in (tmp_path, finished_run)
    )
    assert values == expected


def test_takd_trains_an_assistant_that_other_runs_can_read(config, teacher_path, tmp_path):
    config.method = "takd"
    config.student.epochs = 1
    config.takd.assistant.epochs = 1
    config.teacher.path = teacher_path
    results = runs.run(config, tmp_path / "first")
    assistant = records.read(tmp_path / "first/assistant/results.json")
    teacher = records.read(Path(teacher_path) / "results.json")
    for name, trained in (("assistant", assistant), ("teacher", teacher)):
        fields = ("validation", "test", "parameters")
        assert results[name] == {field: trained[field] for field in fields}
    assert not (tmp_path / "first/teacher").exists()
    temperature = config.kd.temperature
    assert [stage["temperatures"] for stage in results["stages"]] == [[temperature]]
    assert [stage["temperatures"] for stage in assistant["stages"]] == [[temperature]]

    config.takd.assistant.path = str(tmp_path / "first/assistant")
    again = runs.run(config, tmp_path / "second")
    assert again["student"] == results["student"]
    assert again["teacher"] == results["teacher"]
    assert not (tmp_path / "second/assistant").exists()


@jax.numpy_dtype_promotion("standard")  # Flax's batch norm promotes bfloat16 to float32.
def test_bfloat16_run_learns_with_float32_parameters(config, tmp_path):
    config.method = "scratch"
    config.dtype = "bfloat16"
    results = runs.run(config, tmp_path)
    assert results["student"]["test"] > 0.5
    assert results["teacher"] is None
    assert not (tmp_path / "teacher").exists()
    state = read_checkpoint(tmp_path / "student/scratch")["state"]
    assert {leaf.dtype for leaf in jax.tree.leaves(state["params"])} == {np.dtype("float32")}


def test_run_accepts_its_teacher_at_another_path(config, teacher_path, tmp_path):
    teacher = shutil.copytree(teacher_path, tmp_path / "teacher")
    config.method = "kd"
    config.student.epochs = 1
    config.teacher.path = str(teacher)
    runs.run(config, tmp_path / "run")
    recorded = records.read_config(tmp_path / "run")["resume_key"]["teachers"]["teacher"]
    assert recorded == {"digest": records.read(teacher / "results.json")["digest"]}

    moved = teacher.rename(tmp_path / "moved")
    config.teacher.path = str(moved)
    runs.run(config, tmp_path / "run")
    assert runs.evaluate(tmp_path / "run")["teacher"]["accuracy"] > 0.5

    results = records.read(moved / "results.json")
    records.write(moved / "results.json", {**results, "digest": "of other weights"})
    assert_refused(config, tmp_path / "run", r"config\.teachers\.teacher\.digest")


def test_run_takes_a_teacher_that_is_in_memory(config, teacher_path, tmp_path, finished_run):
    config.teacher.path = str(shutil.copytree(teacher_path, tmp_path / "teacher"))
    loaded = load_teacher(make_plan(config), "teacher", tmp_path / "run")
    shutil.rmtree(tmp_path / "teacher/scratch")
    assert_refused(config, tmp_path / "run", "expected checkpoints, got none")
    results = runs.run(config, tmp_path / "run", loaded={"teacher": loaded})
    assert results["student"] == records.read(finished_run / "results.json")["student"]


def test_evaluating_a_finished_run_writes_nothing(finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    before = snapshot(workdir)
    runs.evaluate(workdir)
    assert snapshot(workdir) == before
    (workdir / "teacher/results.json").unlink()
    with pytest.raises(InputError, match="expected the folder of a finished teacher"):
        runs.evaluate(workdir)
