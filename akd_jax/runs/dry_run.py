"""Dry run: builds all networks, takes two steps of each of the student's stages, writes nothing."""

import itertools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import metrics
from akd_jax.data import Examples
from akd_jax.models.network import Model, count_parameters
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.examples import stage_examples
from akd_jax.runs.resume import creates_teacher
from akd_jax.runs.setup import STUDENT, Plan, make_plan
from akd_jax.runs.stages import build_run
from akd_jax.runs.teachers import load_teacher, placeholder_outputs, selections, store_name
from akd_jax.teachers.stored import StoredOutputs
from akd_jax.training import parallel
from akd_jax.training.method import Pretrained
from akd_jax.training.stage import Stage, StageContext
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Outputs, Variables

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
        step, and the scheduled values and the learning rate of each epoch.
      'cache': the bytes of the stored outputs of all teachers.

    Raises:
      InputError: the configuration is not valid.
    """
    plan = make_plan(run_config)
    key = jax.random.key(plan.settings.seed)
    start = plan.student.initial_variables(key, plan.dataset.example)
    student = Model(start, plan.student.apply)
    networks: dict[str, dict[str, Any]] = {STUDENT: {"parameters": count_parameters(start)}}
    teachers: dict[str, Model] = {}
    for name in plan.method.teachers:
        finished = _finished_variables(plan, name)
        variables = finished or plan.teachers[name].initial_variables(key, plan.dataset.example)
        teachers[name] = Model(variables, plan.teachers[name].apply)
        networks[name] = {"parameters": count_parameters(variables)}
        if finished is not None:
            networks[name] |= _evaluate_teacher(plan, teachers[name])
    start = plan.method.initial_variables(student, teachers, plan.dataset.example)
    student = student.replace(variables=start)
    stages: list[dict[str, Any]] = []
    stores: dict[str, int] = {}
    models = dict(teachers)
    for stage in plan.method.stages:
        context = StageContext(plan.dataset, models, plan.batches, plan.tokenise, lambda name: "")
        examples = stage_examples(plan, stage, context)
        stored: dict[str, StoredOutputs] = {}
        if plan.settings.teacher.views:
            stored = {
                name: placeholder_outputs(plan, teachers[name], selection, len(examples))
                for name, selection in selections(plan, STUDENT, stage).items()
            }
        loss_data = stage.build_loss_data(context)
        stages.append(_measure_stage(plan, stage, student, teachers, examples, stored, loss_data))
        stores |= {store_name(stage, name): _num_bytes(x.views) for name, x in stored.items()}
        models = {**models, stage.name: student}
    return {
        "networks": networks,
        "stages": stages,
        "cache": plan.settings.teacher.views * sum(stores.values()),
    }


def _measure_stage(
    plan: Plan,
    stage: Stage,
    student: Model,
    teachers: Mapping[str, Model],
    examples: Examples,
    stored: Mapping[str, StoredOutputs],
    loss_data: Variables,
) -> dict[str, Any]:
    """Runs and measures the first steps of a stage, from the student's initial variables."""
    run = build_run(
        plan,
        stage,
        student,
        teachers,
        examples,
        stored,
        key=jax.random.key(0),
        seed=plan.settings.seed,
        views=1,
        loss_data=loss_data,
    )
    step = parallel.compile_train_step(train_step)
    state, stage_teachers = parallel.replicate((run.state, dict(run.teachers)))
    temperature_step = parallel.replicate(run.values.temperature_step[0])
    batch = max(itertools.islice(run.train.epoch(), _INSPECTED_BATCHES), key=_num_bytes)
    seconds = []
    for number in range(_STEPS):
        started = time.monotonic()
        shards = parallel.shard(batch)
        if number == 0:
            memory = step.memory(state, stage_teachers, shards, temperature_step)
        state, step_metrics = step(state, stage_teachers, shards, temperature_step)
        jax.block_until_ready((state, step_metrics))
        seconds.append(time.monotonic() - started)
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "updates": stage.epochs * len(run.train),
        "first_step_seconds": seconds[0],
        "steps_per_second": 1 / seconds[-1],
        "bytes": memory,
        "loss": metrics.means(metrics.add({}, step_metrics.fetch()[-1]))["loss"],
        "schedules": {name: values.tolist() for name, values in run.values.schedules.items()},
        "learning_rate": run.values.learning_rate.tolist(),
    }


def _finished_variables(plan: Plan, name: str) -> Variables | None:
    """Returns the variables of a finished teacher: a run folder or a Hugging Face folder."""
    recipe = plan.recipes[name]
    if not isinstance(recipe, Pretrained):
        return None
    if creates_teacher(recipe):
        return plan.teachers[name].initial_variables(jax.random.key(0), plan.dataset.example)
    return load_teacher(plan, name, pathlib.Path()).model.variables


def _evaluate_teacher(plan: Plan, model: Model) -> Mapping[str, float]:
    """Returns a teacher's metrics on the first validation examples."""
    count = _TEACHER_BATCHES * plan.settings.batch_size
    return Evaluator(plan).on("validation", first=count)(model, {})


def _num_bytes(tree: Batch | list[Outputs]) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
