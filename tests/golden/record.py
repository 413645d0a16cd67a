"""Record golden values: what the first updates of every training stage compute.

    python -m tests.golden.record

Run it only after an intended change of the numbers, and say in the commit why they change.
`tests/test_golden.py` compares a fresh recording with the files in this folder.

For every stage of every method, and for the stages that train the teacher and the assistant,
a record holds the loss of each of the first ten updates, and the temperature step, the
temperature, Phi and the learning rate of every epoch. It also holds the examples of the first
ten batches.
Teachers keep their initial weights, since a trained teacher differs from machine to machine.
A stage that starts from another stage starts from the student after that stage's ten updates.
"""

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections.config_dict import ConfigDict

from akd_jax.data import Batches
from akd_jax.models.network import Model, Network
from akd_jax.runs import Plan, make_plan
from akd_jax.runs.stages import build_run
from akd_jax.training.method import Method, Trained
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Variables
from configs import digits

FOLDER = Path(__file__).parent
UPDATES = 10
METHODS = ("scratch", "kd", "takd", "annealing_kd", "continuation_kd")


def record(config: ConfigDict, names: tuple[str, ...]) -> dict[str, Any]:
    """Golden values of the named methods, of the teacher and of the assistant."""
    values: dict[str, Any] = {}
    started: dict[str, Any] = {}
    for name in names:
        run_config = config.copy_and_resolve_references()
        run_config.method = name
        plan = make_plan(run_config)
        for number, (role, network) in enumerate(_networks(plan).items()):
            if role not in started:
                started[role] = network.initial_variables(
                    jax.random.key(number), plan.dataset.example
                )
        values[name] = _stages(plan, plan.method, "student", started)
        for teacher, recipe in plan.recipes.items():
            if teacher not in values and isinstance(recipe, Trained):
                values[teacher] = _stages(plan, recipe.method, teacher, started)
    config.dataset.bucketing = True  # Batches of texts are ordered by length, too.
    batches = make_plan(config).batches("train", seed=config.seed).epoch(0)
    return {
        "methods": values,
        "batches": [batch.ids.tolist() for batch in itertools.islice(batches, UPDATES)],
    }


def _networks(plan: Plan) -> dict[str, Network]:
    """The networks of a run by role."""
    return {"student": plan.student, **plan.teachers}


def _stages(
    plan: Plan, method: Method, role: str, started: Mapping[str, Variables]
) -> dict[str, Any]:
    """Golden values of the stages of a method that trains the network of a role."""
    networks = _networks(plan)
    network, initial = networks[role], started[role]
    after: dict[str, Any] = {}
    values: dict[str, Any] = {}
    first_epoch = 0
    for stage in method.stages:
        start = initial if stage.start is None else after[stage.start]
        models = {name: Model(started[name], networks[name].apply) for name in stage.teachers}
        run = build_run(
            plan,
            stage,
            Model(start, network.apply),
            models,
            plan.dataset.splits["train"],
            {},
            key=jax.random.key(0),
            seed=0,
            views=0,
        )
        state, schedules = run.state, run.values.schedules
        step = jax.jit(train_step)
        losses = []
        for batch, k in _updates(run.train, first_epoch, run.values.temperature_step):
            state, metrics = step(state, run.teachers, batch, jnp.int32(k))
            losses.append(float(metrics["loss"].mean()))
        after[stage.name] = jax.device_get(state.model.variables)
        # A stage that does not anneal has temperature 1 and Phi 1.
        ones = np.ones(stage.epochs)
        annealed = "phi" in schedules
        values[stage.name] = {
            "losses": losses,
            "temperature_step": run.values.temperature_step.tolist(),
            "temperature": (schedules["temperature"] if annealed else ones).tolist(),
            "phi": (schedules["phi"] if annealed else ones).tolist(),
            "learning_rate": run.values.learning_rate.tolist(),
        }
        first_epoch += stage.epochs
    return values


def _updates(
    batches: Batches, first_epoch: int, temperature_steps: np.ndarray
) -> Iterator[tuple[Batch, int]]:
    """The first updates of a stage, each with its temperature step."""
    every = (
        (batch, temperature_step)
        for epoch, temperature_step in enumerate(temperature_steps)
        for batch in batches.epoch(first_epoch + epoch)
    )
    return itertools.islice(every, UPDATES)


def record_digits() -> dict[str, Any]:
    """The five methods on digits, with the settings of the demo."""
    return record(digits.get_config(), METHODS)


def record_texts(folder: Path) -> dict[str, Any]:
    """The five methods on the small texts of the tests, which are written into a folder."""
    from tests.support.texts import text_config, write_folders

    write_folders(folder)
    config = text_config(folder)
    return record(config, METHODS)


def main() -> None:
    """Writes the files."""
    with tempfile.TemporaryDirectory() as folder:
        recorded = {"digits": record_digits(), "texts": record_texts(Path(folder))}
    for name, values in recorded.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
