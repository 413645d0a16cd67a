"""The runs of a comparison: students of every method and seed, with shared teachers."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.host import processes, records
from akd_jax.host.files import Path
from akd_jax.runs import STUDENT, Plan
from akd_jax.runs.creation import obtain_teacher
from akd_jax.runs.resume import creates_teacher, resume_key
from akd_jax.runs.teachers import STORED_OUTPUTS, TEACHER, FinishedTeacher
from akd_jax.training.evaluate import Predictor
from experiments import cli
from experiments.tables import percent


@dataclasses.dataclass(frozen=True)
class Grid:
    """The finished runs of a comparison. All lists are in the order of the seeds.

    Attributes:
      folders: the folders of each method's runs, in the folder of the comparison.
      results: the contents of results.json of each method's runs.
      logits: the logits [N, C] of each method's students on the N test examples.
      teachers: the shared teachers by name.
      teacher_logits: the logits [N, C] of the teacher; None if no method shares it.
    """

    folders: Mapping[str, list[str]]
    results: Mapping[str, list[dict[str, Any]]]
    logits: Mapping[str, list[np.ndarray]]
    teachers: Mapping[str, FinishedTeacher]
    teacher_logits: np.ndarray | None


def run_grid(config: ConfigDict, plans: Mapping[str, Plan], seeds: int, workdir: Path) -> Grid:
    """Trains the teachers once, and then every method with every seed.

    Args:
      config: the configuration of all runs.
      plans: the plan of each method, made from this configuration.
      seeds: the number of students of each method; their seeds count up from config.seed.
      workdir: the folder for the teachers, their stored outputs and the runs METHOD/seed_N/.

    Raises:
      InputError: a folder contains another run. No student is trained.
    """
    config, teachers = _share_teachers(config, plans, workdir)
    grid = {
        method: {
            f"{method}/seed_{seed}": changed(config, method=method, seed=seed)
            for seed in range(config.seed, config.seed + seeds)
        }
        for method in plans
    }
    for folders in grid.values():
        for folder, run_config in folders.items():
            _check_run_folder(run_config, workdir / folder)

    results: dict[str, list[dict[str, Any]]] = {method: [] for method in grid}
    logits: dict[str, list[np.ndarray]] = {method: [] for method in grid}
    for method, folders in grid.items():
        for folder, run_config in folders.items():
            result = runs.run(run_config, workdir / folder)
            results[method].append(result)
            logits[method].append(runs.predict(workdir / folder, teachers=False)[STUDENT])
            score = percent(result[STUDENT]["test"])
            cli.print_on_primary(f"{folder}: test {result['metric']} {score}")
    teacher_logits = None
    if TEACHER in teachers:
        first = next(iter(plans.values()))
        outputs = Predictor()(teachers[TEACHER].model, first.batches("test"))
        teacher_logits = np.asarray(outputs.logits)
    return Grid(
        {method: list(folders) for method, folders in grid.items()},
        results,
        logits,
        teachers,
        teacher_logits,
    )


def changed(config: ConfigDict, **changes: Any) -> ConfigDict:
    """Returns a copy of a configuration with changed fields."""
    copy = config.copy_and_resolve_references()
    copy.update(changes)
    return copy


def _share_teachers(
    config: ConfigDict, plans: Mapping[str, Plan], workdir: Path
) -> tuple[ConfigDict, dict[str, FinishedTeacher]]:
    """Trains the teachers of all methods, or loads those whose path is given.

    A teacher that the configuration has no path for cannot be shared: each run trains its own.

    Returns:
      The configuration with the paths of the trained teachers, and the teachers by name.
    """
    fields = traverse_util.flatten_dict(config.to_dict(), sep=".")
    teachers: dict[str, FinishedTeacher] = {}
    paths: dict[str, str] = {}
    for plan in plans.values():
        # Teachers come after those that they train, so that the reverse is the order of training.
        for name, recipe in reversed(list(plan.recipes.items())):
            section = recipe.field.removeprefix("config.").rpartition(".")[0]
            if name in teachers or f"{section}.path" not in fields:
                continue
            teachers[name] = obtain_teacher(plan, name, workdir)
            if creates_teacher(recipe):
                paths[f"{section}.path"] = str(workdir / name)
    config = changed(config)
    config.update_from_flattened_dict(paths)
    if not config.teacher.cache_dir:
        config.teacher.cache_dir = str(workdir / STORED_OUTPUTS)
    return config, teachers


def _check_run_folder(run_config: ConfigDict, folder: Path) -> None:
    """Raises InputError if a folder contains another run."""
    plan = runs.make_plan(run_config)
    key = resume_key(plan.settings, plan.dataset.task, plan.method.teachers)
    processes.on_primary(functools.partial(records.check, folder, "run", key))
