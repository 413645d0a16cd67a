import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging

from akd_jax import data, evaluation, interrupts, loop, methods, parallel, records, runs
from akd_jax.checkpoint import Checkpoints
from akd_jax.data import Examples
from akd_jax.errors import DivergedError, InputError, StoppedError
from akd_jax.methods import scratch
from akd_jax.methods.continuation_kd import continuation_loss
from akd_jax.methods.scratch import supervised_loss
from akd_jax.plan import make_plan, shapes
from akd_jax.types import Method, Stage, Task

ROOT = Path(__file__).parent.parent


def untimed(results):
    """results.json without its times."""
    stages = [
        {name: value for name, value in stage.items() if "second" not in name}
        for stage in results["stages"]
    ]
    return {**results, "stages": stages}


def test_a_run_leaves_what_it_says(config, tmp_path):
    results = runs.run(config, tmp_path)

    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["method"] == "annealing_kd"
    assert results["dataset"] == "digits"
    assert results["devices"] == {"kind": "cpu", "count": 4, "processes": 1}
    stage_1, stage_2 = results["stages"]
    assert (stage_1["name"], stage_1["epochs"], stage_1["steps"]) == ("stage_1", 5, 25)
    assert (stage_1["temperatures"], stage_2["temperatures"]) == ([2, 1], [])
    assert results["student"]["stage"] == "stage_2"
    assert results["student"]["validation"] == stage_2["best_validation"]
    assert results["teacher"]["test"] > 0.6
    assert results["student"]["test"] > 0.2  # Twice chance, after 50 small steps.

    recorded = json.loads((tmp_path / "config.json").read_text())
    assert recorded["config"] == config.to_dict()
    for folder in ("teacher/scratch", "student/stage_1", "student/stage_2"):
        assert any((tmp_path / folder).iterdir())
    assert (tmp_path / "teacher/config.json").exists()
    assert any(tmp_path.glob("events.*"))

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(5, 55, 5))
    assert [line["temperature"] for line in lines[:5]] == [2, 2, 1, 1, 1]
    assert [line["phi"] for line in lines[:5]] == [0.5, 0.5, 1.0, 1.0, 1.0]
    best = max(line["validation_accuracy"] for line in lines[5:])
    assert best == results["student"]["validation"]

    # What was saved is what was scored: evaluated again, from the checkpoints.
    scores = runs.evaluate(tmp_path, "test")
    assert scores["student"]["accuracy"] == results["student"]["test"]
    assert scores["teacher"]["accuracy"] == results["teacher"]["test"]

    # Run again, it trains nothing and returns the same.
    assert runs.run(config, tmp_path) == results


def test_stage_2_starts_from_the_best_of_stage_1(config, teacher_path, tmp_path, monkeypatch):
    started = {}
    stage_run = loop.StageRun

    def spy(stage, state, *args, **kwargs):
        started[stage.name] = jax.tree.map(np.array, state.model.variables)
        return stage_run(stage, state, *args, **kwargs)

    monkeypatch.setattr(loop, "StageRun", spy)
    config.teacher.path = teacher_path
    results = runs.run(config, tmp_path)
    with Checkpoints(tmp_path / "student/stage_1", read_only=True) as checkpoints:
        items, progress = checkpoints.restore({"best": started["stage_1"]})
    jax.tree.map(np.testing.assert_array_equal, started["stage_2"], items["best"])
    assert progress["best_epoch"] == results["stages"][0]["best_epoch"]
    # The best is the last epoch with the highest score.
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scores = [line["validation_accuracy"] for line in lines if line["stage"] == "stage_1"]
    assert progress["best_validation"] == max(scores)
    assert progress["best_epoch"] == len(scores) - scores[::-1].index(max(scores))


def test_best_and_last_are_not_confused(config, teacher_path, tmp_path, monkeypatch):
    """Validation scores are made up, so that the second of five epochs is the best."""
    config.teacher.path = teacher_path
    seen, starts = [], {}
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4] * 2)

    def scripted(self, model, batches):
        seen.append((jax.tree.map(np.array, model.variables), len(batches.examples)))
        score = next(scores) if len(batches.examples) == 297 else len(seen) / 100
        return lambda: {"accuracy": score}

    stage_run = loop.StageRun

    def spy(stage, state, *args, **kwargs):
        starts[stage.name] = jax.tree.map(np.array, state.model.variables)
        return stage_run(stage, state, *args, **kwargs)

    monkeypatch.setattr(evaluation.Evaluator, "dispatch", scripted)
    monkeypatch.setattr(loop, "StageRun", spy)
    results = runs.run(config, tmp_path)
    variables = [found for found, _ in seen]
    assert [count for _, count in seen] == [297] * 10 + [500] * 2
    assert [stage["best_epoch"] for stage in results["stages"]] == [2, 2]
    assert results["student"]["validation"] == 0.9
    assert (results["student"]["test"], results["student"]["test_last"]) == (0.11, 0.12)
    equal = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    equal(starts["stage_2"], variables[1])  # Stage I's second epoch, not its fifth.
    equal(variables[10], variables[6])  # `test`: stage II's second epoch.
    equal(variables[11], variables[9])  # `test_last`: its fifth.
    assert digest(variables[1]) != digest(variables[4])
    assert digest(variables[6]) != digest(variables[9])


def test_an_epoch_is_evaluated_while_the_next_one_trains(config, tmp_path, monkeypatch):
    """But for a checkpoint, which waits for all."""
    config.method = "scratch"
    config.student.epochs = 5
    config.checkpoint_every = 3
    events = []
    begin, call = evaluation.Evaluator.dispatch, parallel.CompiledStep.__call__
    save = Checkpoints.save

    def noted_begin(self, model, batches):
        scores = begin(self, model, batches)
        events.append("evaluation")
        return lambda: events.append("scores") or scores()

    def noted_call(self, *args):
        if len(args) == 4:
            events.append("step")
        return call(self, *args)

    monkeypatch.setattr(evaluation.Evaluator, "dispatch", noted_begin)
    monkeypatch.setattr(parallel.CompiledStep, "__call__", noted_call)
    monkeypatch.setattr(Checkpoints, "save", lambda *args: events.append("save") or save(*args))
    runs.run(config, tmp_path)
    spoken = "".join(
        {"step": ".", "evaluation": "e", "scores": "s", "save": "|"}[x] for x in events
    )
    training = spoken.removesuffix("eses")  # Of the best and the last student, on `test`.
    # Eight are in flight, of steps and of evaluated epochs, but only one copy of the student.
    assert training == ".....e.....se.....ess|.....e.....ess|"


def test_no_epoch_of_a_run_has_the_order_of_another(config, teacher_path, tmp_path, monkeypatch):
    config.teacher.path = teacher_path
    asked = []
    epoch = data.Batches.epoch

    def spy(self, number=0, first=0):
        if self.seed is not None:
            asked.append(number)
        return epoch(self, number, first)

    monkeypatch.setattr(data.Batches, "epoch", spy)
    runs.run(config, tmp_path)
    assert asked == list(range(10))


def test_two_stages_can_start_from_the_initial_parameters(config, tmp_path, monkeypatch):
    def twice(settings):
        stages = tuple(
            Stage(name, 1, supervised_loss, settings.student.optimizer) for name in ("a", "b")
        )
        return Method("twice", stages)

    monkeypatch.setitem(methods.METHODS, "twice", twice)
    config.method = "twice"
    assert len(runs.run(config, tmp_path)["stages"]) == 2


def test_a_stage_that_is_trained_anew_voids_those_after_it(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    results = runs.run(config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "results.json").unlink()
    shutil.rmtree(tmp_path / "student/stage_1")
    assert untimed(runs.run(config, tmp_path)) == untimed(results)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(lines) == 10


def test_a_run_knows_its_teacher_and_not_the_place_of_it(config, teacher_path, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(teacher_path, teacher)
    config.method = "kd"
    config.student.epochs = 1
    config.teacher.path = str(teacher)
    runs.run(config, tmp_path / "run")
    recorded = records.read_config(tmp_path / "run")["resume_key"]["teacher"]
    assert recorded == {"digest": records.read(teacher / "results.json")["digest"]}

    moved = teacher.rename(tmp_path / "moved")
    config.teacher.path = str(moved)
    runs.run(config, tmp_path / "run")
    assert runs.evaluate(tmp_path / "run")["teacher"]["accuracy"] > 0.5

    results = records.read(moved / "results.json")
    records.write(moved / "results.json", {**results, "digest": "of other weights"})
    refused(config, tmp_path / "run", r"another config\.teacher\.digest")


def digest(tree):
    return b"".join(leaf.tobytes() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("max_temperature", [1, 20])
def test_one_trace_per_stage(config, teacher_path, tmp_path, monkeypatch, max_temperature):
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(loop.train_step, n=2)  # One for each of the two stages.
    monkeypatch.setattr(loop, "train_step", counted)
    config.teacher.path = teacher_path
    config.batch_size = 500
    config.student.epochs = 22
    config.annealing_kd.stage_1.epochs = 20
    config.annealing_kd.max_temperature = max_temperature
    results = runs.run(config, tmp_path)
    assert [stage["traces"] for stage in results["stages"]] == [1, 1]
    assert results["stages"][0]["temperatures"] == list(range(max_temperature, 0, -1))


# Runs the launcher, and kills it at the end of an epoch that was recorded but not yet saved.
KILLED = """
import os, runpy, signal, sys
from akd_jax.writers import MetricWriter
stage, epoch = sys.argv.pop(1), int(sys.argv.pop(1))
write = MetricWriter.write
def write_and_die(self, record):
    write(self, record)
    if (record["stage"], record["epoch"]) == (stage, epoch):
        os.kill(os.getpid(), signal.SIGKILL)
MetricWriter.write = write_and_die
sys.argv[0] = "train"
runpy.run_module("experiments.train", run_name="__main__")
"""


def launch(config, workdir, *, code=None, arguments=()):
    """Runs experiments.train, or code that does, in a process of its own, on one device."""
    cache = workdir.parent / "compiled"
    flags = ["--config=configs/digits.py", f"--workdir={workdir}"]
    for name in SMALL_FIELDS:
        value = config
        for part in name.split("."):
            value = value[part]
        flags.append(f"--config.{name}={value}")
    start = ["-m", "experiments.train"] if code is None else ["-c", code, *arguments]
    return subprocess.run(
        [sys.executable, *start, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )


SMALL_FIELDS = (
    "batch_size",
    "checkpoint_every",
    "steps_per_loop",
    "teacher.path",
    "student.model",
    "student.epochs",
    "annealing_kd.stage_1.epochs",
    "annealing_kd.max_temperature",
)


def test_a_killed_run_ends_as_one_never_killed(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    config.steps_per_loop = 2  # Of five in an epoch: the last one goes by itself.
    whole = launch(config, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr == ""  # Quiet where there is no terminal.
    for kill_at in (("stage_1", "4"), ("stage_2", "3")):
        killed = launch(config, tmp_path / "killed", code=KILLED, arguments=kill_at)
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / "killed/results.json").exists()
    resumed = launch(config, tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr

    first, second = (records.read(tmp_path / name / "results.json") for name in ("whole", "killed"))
    assert untimed(first) == untimed(second)
    lines = [
        [
            {name: value for name, value in json.loads(line).items() if "second" not in name}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "killed")
    ]
    assert len(lines[0]) == 10
    assert lines[0] == lines[1]
    states = [final_state(tmp_path / name / "student/stage_2/30") for name in ("whole", "killed")]
    assert jax.tree.leaves(states[0])
    jax.tree.map(np.testing.assert_array_equal, *states)

    again = launch(config, tmp_path / "whole")
    assert again.returncode == 0
    assert "finished; nothing was trained" in again.stdout


@pytest.mark.parametrize("per_loop", [1, 2, 5])  # Five are an epoch.
def test_a_run_that_is_stopped_again_and_again_ends_as_one_never_stopped(
    config, teacher_path, tmp_path, monkeypatch, per_loop
):
    config.teacher.path = teacher_path
    config.steps_per_loop = per_loop
    whole = runs.run(config, tmp_path / "whole")
    rng = np.random.default_rng(0)
    compiled, steps = parallel.compile_train_step, []

    def counted(train_step):
        step = compiled(train_step)

        def call(*args, original=step._call):
            weights = args[2].weights  # [devices, B], or [devices, K, B].
            steps.append(weights.shape[1] if weights.ndim == 3 else 1)
            return original(*args)

        monkeypatch.setattr(step, "_call", call)
        return step

    monkeypatch.setattr(parallel, "compile_train_step", counted)
    stops = 0
    while True:  # A signal comes after some looks for one: in an epoch, or in an evaluation.
        left = int(rng.integers(2, 14))

        def stop_requested():
            nonlocal left
            left -= 1
            return left < 0

        monkeypatch.setattr(interrupts, "stop_requested", stop_requested)
        try:
            stopped = runs.run(config, tmp_path / "stopped")
            break
        except StoppedError as error:
            assert "the same command goes on" in str(error)
            stops += 1
    assert stops > (8 if per_loop < 5 else 3)
    assert sum(steps) == 50  # None was taken twice, and none is missing.
    assert untimed(stopped) == untimed(whole) | {"stages": untimed(stopped)["stages"]}
    for one, other in zip(stopped["stages"], whole["stages"], strict=True):
        assert {**one, "seconds": 0, "examples_per_second": 0, "traces": 0} == {
            **other,
            "seconds": 0,
            "examples_per_second": 0,
            "traces": 0,
        }
    states = [final_state(tmp_path / name / "student/stage_2/30") for name in ("whole", "stopped")]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_several_steps_in_a_program_are_these_steps(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    found = []
    for per_loop in (1, 3):
        config.steps_per_loop = per_loop
        results = runs.run(config, tmp_path / str(per_loop))
        assert {stage["traces"] for stage in results["stages"]} == {1 if per_loop == 1 else 2}
        found.append(runs.load(tmp_path / str(per_loop), teachers=False)[1]["student"])
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        *(model.variables for model in found),
    )


TERMINATED = """
import os, runpy, signal, sys, threading
from akd_jax import loop
dispatch, epochs = loop.StageRun._dispatch, []
def dispatch_and_signal(*args):
    epochs.append(1)
    if len(epochs) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return dispatch(*args)
loop.StageRun._dispatch = dispatch_and_signal
sys.argv[0] = "train"
runpy.run_module("experiments.train", run_name="__main__")
"""


def test_sigterm_leaves_with_a_code_of_its_own_and_nothing_is_lost(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    config.checkpoint_every = 5
    stopped = launch(config, tmp_path / "run", code=TERMINATED)
    assert stopped.returncode == os.EX_TEMPFAIL
    line = "stage_1: stopped by a signal, with everything saved; the same command goes on"
    assert stopped.stderr == f"error: annealing_kd seed 0 {line}\n"
    assert (tmp_path / "run/student/stage_1/12").exists()  # Two epochs of 5 steps and their ends.
    resumed = launch(config, tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr


def final_state(checkpoint):
    """All arrays of a checkpoint, read by Orbax without knowledge of the library."""
    with ocp.StandardCheckpointer() as checkpointer:
        items = {item: checkpointer.restore(checkpoint / item) for item in ("state", "best")}
    key = items["state"].pop("key")
    return {**items, "key": jax.random.key_data(key)}


def test_a_finished_stage_is_not_trained_again(config, teacher_path, tmp_path, monkeypatch):
    config.teacher.path = teacher_path
    results = runs.run(config, tmp_path)
    (tmp_path / "results.json").unlink()
    monkeypatch.setattr(loop, "train_step", None)  # Calling it would fail.
    monkeypatch.setattr(parallel, "compile_train_step", lambda step: None)
    assert untimed(runs.run(config, tmp_path)) == untimed(results)


def test_scratch_trains_no_teacher(config, tmp_path):
    config.method = "scratch"
    results = runs.run(config, tmp_path)
    assert results["teacher"] is None
    assert not (tmp_path / "teacher").exists()


def recorded_losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["train_loss"] for line in lines])


@pytest.mark.parametrize("method", ["kd", "annealing_kd"])
def test_cached_is_live(config, teacher_path, tmp_path, method):
    config.method = method
    config.teacher.path = teacher_path
    config.dataset.crop_padding = 1
    config.dataset.flip = True
    config.student.epochs = 6
    config.annealing_kd.stage_1.epochs = 4
    live = runs.run(config, tmp_path / "live")
    assert "teacher_cache" not in live
    config.teacher.views = 6  # A view for each epoch.
    cached = runs.run(config, tmp_path / "cached")
    assert cached["teacher_cache"]["teacher"]["views"] == 6
    np.testing.assert_allclose(
        recorded_losses(tmp_path / "cached"), recorded_losses(tmp_path / "live"), rtol=1e-5
    )
    assert cached["student"] == live["student"]


def test_with_fewer_views_than_epochs_views_come_again(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    config.dataset.flip = True
    config.teacher.views = 2
    settings = make_plan(config)
    batches = settings.batches("train", seed=0, views=2)
    views = [set(next(batches.epoch(epoch)).views.tolist()) for epoch in range(5)]
    assert views == [{0}, {1}, {0}, {1}, {0}]
    runs.run(config, tmp_path)
    assert len(list(tmp_path.glob("teacher_logits/teacher-*/view_*.npy"))) == 2


def test_every_method_and_stage_draws_the_same_views(config, teacher_path, tmp_path, monkeypatch):
    config.teacher.path = teacher_path
    config.teacher.views = 2
    config.student.epochs = 6
    config.annealing_kd.stage_1.epochs = 3
    drawn = []
    epoch = data.Batches.epoch

    def spy(self, number=0, first=0):
        for batch in epoch(self, number, first):
            if self.seed is not None and drawn[-1:] != [int(batch.views[0])]:
                drawn.append(int(batch.views[0]))
            yield batch

    monkeypatch.setattr(data.Batches, "epoch", spy)
    for method in ("scratch", "kd", "annealing_kd"):
        config.method = method
        drawn.clear()
        runs.run(config, tmp_path / method)
        assert drawn == [0, 1, 0, 1, 0, 1]


def test_a_cache_that_cannot_be_written_is_refused_at_once(config, teacher_path, tmp_path):
    (tmp_path / "file").write_text("")
    config.teacher.path = teacher_path
    config.teacher.views = 1
    config.teacher.cache_dir = str(tmp_path / "file" / "below")
    refused(config, tmp_path / "run", "expected a folder")
    assert not (tmp_path / "run").exists()


def test_reading_a_finished_run_trains_and_writes_nothing(config, tmp_path):
    config.student.epochs = 2
    config.annealing_kd.stage_1.epochs = 1
    config.annealing_kd.max_temperature = 1
    runs.run(config, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    runs.evaluate(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    (tmp_path / "teacher/results.json").unlink()
    with pytest.raises(InputError, match="expected the folder of a finished teacher"):
        runs.evaluate(tmp_path)


def test_one_cache_serves_methods_and_seeds(config, teacher_path, tmp_path, monkeypatch):
    config.teacher.path = teacher_path
    config.teacher.cache_dir = str(tmp_path / "shared")
    config.teacher.views = 1
    config.student.epochs = 2
    config.annealing_kd.stage_1.epochs = 1
    config.annealing_kd.max_temperature = 1
    runs.run(config, tmp_path / "first")
    predict = evaluation.Predictor.__call__

    def not_on_train(self, model, batches, view=0):
        assert len(batches.examples) != 1000, "the teacher is run again"
        return predict(self, model, batches, view)

    monkeypatch.setattr(evaluation.Predictor, "__call__", not_on_train)
    config.seed = 1
    runs.run(config, tmp_path / "second")
    config.method = "kd"
    runs.run(config, tmp_path / "third")


def test_takd_trains_an_assistant_that_others_can_use(config, teacher_path, tmp_path):
    config.method = "takd"
    config.student.epochs = 1
    config.teacher.path = teacher_path
    results = runs.run(config, tmp_path / "first")
    assistant = records.read(tmp_path / "first/assistant/results.json")
    assert results["assistant"] == {name: assistant[name] for name in ("validation", "test")}
    teacher = records.read(Path(teacher_path) / "results.json")
    assert results["teacher"] == {name: teacher[name] for name in ("validation", "test")}
    assert not (tmp_path / "first/teacher").exists()

    config.takd.assistant.path = str(tmp_path / "first/assistant")
    again = runs.run(config, tmp_path / "second")
    assert again["student"] == results["student"]
    assert again["teacher"] == results["teacher"]
    assert not (tmp_path / "second/assistant").exists()


def test_continuation_with_a_step_and_no_margin_is_annealing_bit_for_bit(
    config, teacher_path, tmp_path, monkeypatch
):
    config.teacher.path = teacher_path
    runs.run(config, tmp_path / "annealing")
    config.method = "continuation_kd"
    config.continuation_kd.psi = "step"
    config.continuation_kd.margin = 0.0

    # Not even where psi is 1 the shortcut: the whole loss, with the teacher in it.
    def whole(settings):
        stage_1, stage_2 = methods.METHODS["continuation_kd"](settings).stages
        loss = continuation_loss("mean", 0.0, 1, lambda batch: np.float32(1))
        stage_2 = dataclasses.replace(stage_2, loss=loss, teachers=("teacher",))
        return Method("whole", (stage_1, stage_2))

    runs.run(config, tmp_path / "continuation_kd")
    monkeypatch.setitem(methods.METHODS, "whole", whole)
    config.method = "whole"
    runs.run(config, tmp_path / "whole")
    expected = final_state(tmp_path / "annealing/student/stage_2/30")
    for name in ("continuation_kd", "whole"):
        found = final_state(tmp_path / name / "student/stage_2/30")
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        np.testing.assert_array_equal(
            recorded_losses(tmp_path / name), recorded_losses(tmp_path / "annealing")
        )


@jax.numpy_dtype_promotion("standard")  # Flax's batch norm promotes bfloat16 to float32.
def test_a_run_in_bfloat16_learns_with_parameters_in_float32(config, tmp_path):
    config.method = "scratch"
    config.dtype = "bfloat16"
    assert runs.run(config, tmp_path)["student"]["test"] > 0.5
    state = final_state(tmp_path / "student/scratch/60")["state"]
    assert {leaf.dtype for leaf in jax.tree.leaves(state["params"])} == {np.dtype("float32")}


def test_a_wrong_teacher_behind_an_assistant_is_refused_at_once(config, tmp_path):
    config.method = "takd"
    config.teacher.model = "resnet:9"
    refused(config, tmp_path / "run", r"config\.teacher\.model: resnet:9: expected a depth")
    assert not (tmp_path / "run").exists()


def test_a_method_of_ones_own_is_a_line_in_the_dict(config, teacher_path, tmp_path, monkeypatch):
    def mine(settings):
        def loss(student, teachers, batch, temperature_step):
            difference = student.logits - teachers["teacher"].logits
            return abs(difference).mean(axis=-1)

        stage = Stage("mine", 2, loss, settings.student.optimizer, teachers=("teacher",))
        return Method("mine", (stage,))

    monkeypatch.setitem(methods.METHODS, "mine", mine)
    config.method = "mine"
    config.teacher.path = teacher_path
    assert runs.run(config, tmp_path)["stages"][0]["name"] == "mine"


def refused(config, workdir, message):
    with pytest.raises(InputError, match=message) as error:
        runs.run(config, workdir)
    assert "\n" not in str(error.value)


def test_bad_input_is_refused_before_anything_is_written(config, tmp_path):
    workdir = tmp_path / "run"
    for fields, message in (
        ({"method": "akd"}, "one of scratch, kd, takd, .* got 'akd'"),
        (
            {"dataset.name": "digit"},
            "config.dataset.name: expected one of .*digits, .* got 'digit'",
        ),
        ({"batch_size": 30}, "a multiple of the 4 devices, got 30; take 28 or 32"),
        ({"annealing_kd.max_temperature": 6}, "expected 1 to 5, the epochs of stage I, got 6"),
        ({"annealing_kd.max_temperature": 0}, "greater than or equal to 1, got 0"),
        ({"student.model": "plain_cnn:4 M"}, "config.student.model: plain_cnn:4 M: expected FC"),
        ({"student.model": "plain_cnn:4 M M M M FC"}, "config.student.model: .* take out an M"),
        ({"teacher.model": "plain_cnn:4 M"}, "config.teacher.model: plain_cnn:4 M: expected FC"),
        ({"teacher.path": "nowhere"}, "the folder of a finished teacher, got nowhere"),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(fields)
        refused(changed, workdir, message)
        assert not workdir.exists()


def test_another_runs_workdir_is_refused(config, teacher_path, tmp_path):
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    config.seed = 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert before
    refused(config, tmp_path, r"another config.seed \(0 there, 1 here\); choose another workdir")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_teacher_of_other_classes_is_refused(config, teacher_path, tmp_path, monkeypatch):
    source = data.DATASETS["digits"](None)
    fives = dataclasses.replace(
        source,
        task=Task.numbered(5),
        train=source.train.take(np.flatnonzero(source.train.labels < 5)),
        test=source.test.take(np.flatnonzero(source.test.labels < 5)),
    )
    monkeypatch.setitem(data.DATASETS, "fives", lambda data_dir: fives)
    config.dataset.validation_size = 100
    config.dataset.name = "fives"
    config.teacher.path = teacher_path
    refused(
        config,
        tmp_path / "run",
        "the student's data set fives, with 5 classes, got one with 10 classes",
    )
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_labels_is_refused(config, teacher_path, tmp_path, monkeypatch):
    source = data.DATASETS["digits"](None)
    reversed_ = dataclasses.replace(source, task=Task(source.task.labels[::-1]))
    monkeypatch.setitem(data.DATASETS, "reversed", lambda data_dir: reversed_)
    config.dataset.name = "reversed"
    config.teacher.path = teacher_path
    match = "reversed, with the labels 9, 8, .*, got one with the labels 0, 1, "
    refused(config, tmp_path / "run", match)


def test_a_run_whose_data_are_others_by_now_is_not_evaluated(
    config, teacher_path, tmp_path, monkeypatch
):
    config.teacher.path = teacher_path
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    source = data.DATASETS["digits"](None)
    renamed = dataclasses.replace(source, task=Task(source.task.labels[::-1]))
    monkeypatch.setitem(data.DATASETS, "digits", lambda data_dir: renamed)
    data.load.cache_clear()
    try:
        with pytest.raises(InputError, match=r"another config.labels .* put back the data"):
            runs.predict(tmp_path, teachers=False)
    finally:
        data.load.cache_clear()


def test_a_diverged_run_says_what_to_try(config, teacher_path, tmp_path):
    config.teacher.path = teacher_path
    config.annealing_kd.stage_1.optimizer.learning_rate = 1e20
    with (
        jax.debug_nans(False),
        pytest.raises(
            DivergedError, match=r"stage_1: .* in step \d of epoch 1, at temperature 2; lower its"
        ),
    ):
        runs.run(config, tmp_path)


@pytest.mark.parametrize("checkpoint_every", [1, 100])
def test_what_was_before_a_divergence_is_kept(
    config, teacher_path, tmp_path, monkeypatch, checkpoint_every
):
    config.teacher.path = teacher_path
    config.method = "scratch"
    config.checkpoint_every = checkpoint_every
    loss = scratch.supervised_loss

    def exploding(student, teachers, batch, temperature_step):
        values = loss(student, teachers, batch, temperature_step)
        return values * jnp.where(batch.epochs == 2, jnp.inf, 1)  # In the third epoch.

    monkeypatch.setattr(scratch, "supervised_loss", exploding)
    with jax.debug_nans(False), pytest.raises(DivergedError, match="in step 1 of epoch 3, at"):
        runs.run(config, tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    if checkpoint_every > 1:
        return  # The second epoch was on record, but not saved, when the third had begun.
    with Checkpoints(tmp_path / "student/scratch", read_only=True) as checkpoints:
        plan = make_plan(config)
        template = shapes(plan.student, plan.dataset)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
        items, progress = checkpoints.restore({"best": zeros})
    assert progress["epoch"] == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(items["best"]))


def test_steps_that_are_not_finite_can_be_left_out(config, teacher_path, tmp_path, monkeypatch):
    config.teacher.path = teacher_path
    config.method = "scratch"
    config.student.epochs = 3
    config.skip_nonfinite = True
    loss, which = scratch.supervised_loss, np.arange(1)  # One example spoils its step.

    def sometimes(student, teachers, batch, temperature_step):
        values = loss(student, teachers, batch, temperature_step)
        spoilt = (batch.epochs[0] == 1) & (batch.ids == which).any()
        return values * jnp.where(spoilt, jnp.nan, 1)

    monkeypatch.setattr(scratch, "supervised_loss", sometimes)
    with jax.debug_nans(False):
        results = runs.run(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["train_nonfinite"] for line in lines] == pytest.approx([0, 1 / 5, 0])
    assert np.isfinite([line["train_loss"] for line in lines]).all()
    assert results["student"]["test"] > 0.3

    which = np.arange(1000)[:, None]  # All of them: there is nothing to learn from.
    with (
        jax.debug_nans(False),
        pytest.raises(DivergedError, match="others in every step of epoch 2,"),
    ):
        runs.run(config, tmp_path / "none")


def test_a_student_at_chance_is_warned_of(config, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    source = data.DATASETS["digits"](None)
    noise = dataclasses.replace(
        source, train=Examples(source.train.inputs, rng.permutation(source.train.labels))
    )
    monkeypatch.setitem(data.DATASETS, "noise", lambda data_dir: noise)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: warnings.append(text % args))
    config.dataset.name = "noise"
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    assert len(warnings) == 1
    assert "scratch seed 0 ends at chance" in warnings[0]
    assert "try a learning rate under 0.05" in warnings[0]


def test_an_empty_name_is_no_workdir(config):
    refused(config, "", "workdir: expected a folder, got an empty name")


def test_a_teachers_folder_is_no_run(config, teacher_path):
    with pytest.raises(InputError, match=r"expected a finished run, got .* a teacher"):
        runs.evaluate(teacher_path)


def test_evaluate_names_what_is_missing(config, tmp_path):
    with pytest.raises(InputError, match="expected a finished run, got none"):
        runs.evaluate(tmp_path)
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    with pytest.raises(InputError, match="one of validation, train, test, got 'dev'"):
        runs.evaluate(tmp_path, "dev")
