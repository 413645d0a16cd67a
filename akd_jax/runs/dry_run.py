"""Dry run: builds all networks, takes two steps of each of the student's stages, writes nothing."""

import itertools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import methods, metrics
from akd_jax.models.network import Model, Network
from akd_jax.runs.entry import load_teacher, predictor, stage_state
from akd_jax.runs.setup import STUDENT, Plan, creates_teacher, make_plan
from akd_jax.teachers.live import CachedTeacher, LiveTeacher
from akd_jax.training import evaluate as evaluation
from akd_jax.training import loop, parallel
from akd_jax.training.stage import Stage
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Teacher, Variables

_STEPS = 2  # The first step compiles; the last one is timed.
_INSPECTED_BATCHES = 50  # The largest of them shows the memory that the longest texts need.
_TEACHER_BATCHES = 4  # Validation batches that evaluate a finished teacher.


def rehearse(run_config: Any) -> dict[str, Any]:
    """Measures the student's stages of a run without a workdir.

    Args:
      run_config: an ml_collections ConfigDict or a dict with the fields of configs/default.py.

    Returns:
      'networks': the number of parameters of the student and of each teacher. A finished teacher
        also has its metrics on the first validation batches.
      'stages': for each stage its epochs and updates, the seconds until the first step is done,
        the steps per second, the bytes that a step needs on a device, the loss of the last
        step, and the annealing factor and the learning rate of each epoch.
      'cache': the bytes of the stored logits of all teachers.

    Raises:
      InputError: the configuration is not valid.
    """
    plan = make_plan(run_config)
    key = jax.random.key(plan.settings.seed)
    start = plan.student.initial_variables(key, plan.dataset.example)
    networks: dict[str, dict[str, Any]] = {STUDENT: {"parameters": _count_parameters(start)}}
    teachers: dict[str, Model] = {}
    for name in plan.method.teachers:
        network = plan.teachers[name]
        finished = _finished_variables(plan, name, network)
        variables = (
            network.initial_variables(key, plan.dataset.example) if finished is None else finished
        )
        teachers[name] = Model(variables, network.apply)
        networks[name] = {"parameters": _count_parameters(variables)}
        if finished is not None:
            networks[name] |= _evaluate_teacher(plan, teachers[name])
    views = plan.settings.teacher.views
    examples = len(plan.dataset.splits["train"])
    stored = np.zeros((examples, plan.dataset.task.outputs), np.float32)
    return {
        "networks": networks,
        "stages": [
            _measure_stage(plan, stage, start, teachers, {n: [stored] for n in teachers if views})
            for stage in plan.method.stages
        ],
        "cache": stored.nbytes * views * len(teachers),
    }


def _measure_stage(
    plan: Plan,
    stage: Stage,
    variables: Variables,
    models: Mapping[str, Model],
    stored: Mapping[str, list[np.ndarray]],
) -> dict[str, Any]:
    """Runs and measures the first steps of a stage, from the student's initial variables.

    Args:
      plan: the plan of the run.
      stage: the stage.
      variables: the student's initial variables.
      models: the teachers by name.
      stored: placeholders for the stored logits of the teachers that have them, by name.
    """
    logits = {name: stored[name] for name in stage.teachers if name in stored}
    batches = plan.batches("train", seed=plan.settings.seed, views=1, teacher_logits=logits)
    state, learning_rate = stage_state(
        plan, plan.student, stage, variables, jax.random.key(0), len(batches)
    )
    teachers: dict[str, Teacher] = {
        name: CachedTeacher(name) if name in logits else LiveTeacher(models[name])
        for name in stage.teachers
    }
    schedules = loop.EpochSchedules.of(stage, learning_rate, len(batches))
    step = parallel.compile_train_step(train_step)
    state, teachers = parallel.replicate((state, teachers))
    temperature_step = parallel.replicate(schedules.temperature_step[0])
    batch = max(itertools.islice(batches.epoch(), _INSPECTED_BATCHES), key=_batch_bytes)
    seconds = []
    for number in range(_STEPS):
        started = time.monotonic()
        if number == 0:
            memory = step.memory(state, teachers, parallel.shard(batch), temperature_step)
        state, step_metrics = step(state, teachers, parallel.shard(batch), temperature_step)
        jax.block_until_ready((state, step_metrics))
        seconds.append(time.monotonic() - started)
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "updates": stage.epochs * len(batches),
        "first_step_seconds": seconds[0],
        "steps_per_second": 1 / seconds[-1],
        "bytes": memory,
        "loss": metrics.means(metrics.add({}, step_metrics.fetch()[-1]))["loss"],
        "phi": schedules.phi.tolist(),
        "learning_rate": schedules.learning_rate.tolist(),
    }


def _finished_variables(plan: Plan, name: str, network: Network) -> Variables | None:
    """Returns the variables of a finished teacher: a run folder or a Hugging Face folder."""
    if not methods.teacher_config(plan.settings, name).path:
        return None
    if creates_teacher(plan.settings, name):
        return network.initial_variables(jax.random.key(0), plan.dataset.example)
    return load_teacher(plan, name, pathlib.Path()).model.variables


def _evaluate_teacher(plan: Plan, model: Model) -> dict[str, float]:
    """Returns a teacher's metrics on the first validation examples."""
    count = _TEACHER_BATCHES * plan.settings.batch_size
    split = plan.dataset.splits["validation"]
    first = split.take(np.arange(min(count, len(split))))
    return evaluation.Evaluator(predictor(), plan.dataset.task)(model, plan.batches(first))


def _count_parameters(variables: Variables) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _batch_bytes(batch: Batch) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch))
