"""A rehearsal: all of a run is built and compiled and takes two steps, and nothing is kept."""

import itertools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import evaluation, loop, methods, metrics, parallel
from akd_jax.plan import STUDENT, Plan, creates_teacher, make_plan
from akd_jax.runs import load_teacher, predictor, stage_state
from akd_jax.step import train_step
from akd_jax.teachers import CachedTeacher, LiveTeacher
from akd_jax.types import Batch, Model, Network, Stage, Teacher, Variables

_STEPS = 2  # The first one compiles; the others are timed.
_BATCHES_LOOKED_AT = 50  # Of which the largest is taken: the memory of the longest texts.
_TEACHER_BATCHES = 4  # On which a teacher that is there is scored.


def rehearse(run_config: Any) -> dict[str, Any]:
    """Rehearses the student's stages of a run; neither reads nor writes a workdir.

    Args:
      run_config: an ml_collections ConfigDict or a dict, with the fields of configs/default.py.

    Returns:
      'networks': for the student and each teacher its parameters, and, of a teacher that is
      finished, the metrics on its first validation batches; 'stages': for each its epochs and
      updates, the seconds to the first step, the steps per second of the next, the bytes that
      a step takes on a device, and by epoch the annealing factor and the learning rate;
      'cache': the bytes of the stored logits of all teachers.

    Raises:
      InputError: the configuration does not fit.
    """
    plan = make_plan(run_config)
    key = jax.random.key(plan.settings.seed)
    start = plan.student.initial_variables(key, plan.dataset.example)
    networks: dict[str, dict[str, Any]] = {STUDENT: {"parameters": _parameters(start)}}
    teachers: dict[str, Model] = {}
    for name in plan.method.teachers:
        network = plan.teachers[name]
        finished = _finished(plan, name, network)
        variables = (
            network.initial_variables(key, plan.dataset.example) if finished is None else finished
        )
        teachers[name] = Model(variables, network.apply)
        networks[name] = {"parameters": _parameters(variables)}
        if finished is not None:
            networks[name] |= _score(plan, teachers[name])
    views = plan.settings.teacher.views
    examples = len(plan.dataset.splits["train"])
    stored = np.zeros((examples, plan.dataset.task.outputs), np.float32)
    return {
        "networks": networks,
        "stages": [
            _rehearse(plan, stage, start, teachers, {n: [stored] for n in teachers if views})
            for stage in plan.method.stages
        ],
        "cache": stored.nbytes * views * len(teachers),
    }


def _rehearse(
    plan: Plan,
    stage: Stage,
    variables: Variables,
    models: Mapping[str, Model],
    stored: Mapping[str, list[np.ndarray]],
) -> dict[str, Any]:
    """Takes the first steps of a stage, from the student's initial variables."""
    read = {name: stored[name] for name in stage.teachers if name in stored}
    batches = plan.batches("train", seed=plan.settings.seed, views=1, teacher_logits=read)
    state, learning_rate = stage_state(
        plan, plan.student, stage, variables, jax.random.key(0), len(batches)
    )
    teachers: dict[str, Teacher] = {
        name: CachedTeacher(name) if name in read else LiveTeacher(models[name])
        for name in stage.teachers
    }
    scheduled = loop.EpochSchedules.of(stage, learning_rate, len(batches))
    step = parallel.compile_train_step(train_step)
    state, teachers = parallel.replicate((state, teachers))
    temperature_step = parallel.replicate(scheduled.temperature_step[0])
    batch = max(itertools.islice(batches.epoch(), _BATCHES_LOOKED_AT), key=_bytes)
    seconds = []
    for number in range(_STEPS):
        started = time.monotonic()
        if number == 0:
            memory = step.memory(state, teachers, parallel.shard(batch), temperature_step)
        state, found = step(state, teachers, parallel.shard(batch), temperature_step)
        jax.block_until_ready((state, found))
        seconds.append(time.monotonic() - started)
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "updates": stage.epochs * len(batches),
        "first_step_seconds": seconds[0],
        "steps_per_second": 1 / seconds[-1],
        "bytes": memory,
        "loss": metrics.means(metrics.add({}, found.fetch()[-1]))["loss"],
        "phi": scheduled.phi.tolist(),
        "learning_rate": scheduled.learning_rate.tolist(),
    }


def _finished(plan: Plan, name: str, network: Network) -> Variables | None:
    """The variables of a teacher that is there, here or in a Hugging Face folder."""
    if not methods.teacher_config(plan.settings, name).path:
        return None
    if creates_teacher(plan.settings, name):
        return network.initial_variables(jax.random.key(0), plan.dataset.example)
    return load_teacher(plan, name, pathlib.Path()).model.variables


def _score(plan: Plan, model: Model) -> dict[str, float]:
    """A teacher's metrics on the first validation examples."""
    count = _TEACHER_BATCHES * plan.settings.batch_size
    split = plan.dataset.splits["validation"]
    first = split.take(np.arange(min(count, len(split))))
    return evaluation.Evaluator(predictor(), plan.dataset.task)(model, plan.batches(first))


def _parameters(variables: Variables) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _bytes(batch: Batch) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch))
