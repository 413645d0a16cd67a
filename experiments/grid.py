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
from akd_jax.host.errors import DivergedError, InputError
from akd_jax.host.files import Path
from akd_jax.methods import METHODS
from akd_jax.runs import STUDENT, Plan
from akd_jax.runs.creation import obtain_teacher
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.examples import planned_updates
from akd_jax.runs.resume import creates_teacher, recipe_key, resume_key
from akd_jax.runs.setup import read_config
from akd_jax.runs.teachers import STORED_OUTPUTS, TEACHER, FinishedTeacher
from akd_jax.training.method import Frozen, Recipe
from akd_jax.training.texts import Texts
from experiments import cli
from experiments.tables import percent


@dataclasses.dataclass(frozen=True)
class Grid:
    """The finished runs of a comparison. All lists are in the order of the seeds.

    Attributes:
      folders: the folders of each method's runs, in the folder of the comparison.
      results: the contents of results.json of each method's runs.
      diverged: the error of each method that diverged with a seed. It has no folders and results.
      teachers: the shared teachers by name.
    """

    folders: Mapping[str, list[str]]
    results: Mapping[str, list[dict[str, Any]]]
    diverged: Mapping[str, str]
    teachers: Mapping[str, FinishedTeacher]


def run_grid(config: ConfigDict, plans: Mapping[str, Plan], seeds: int, workdir: Path) -> Grid:
    """Trains the teachers once, and then every method with every seed.

    Args:
      config: the configuration of all runs.
      plans: the plan of each row, a method or a variant, made from this configuration.
      seeds: the number of students of each method; their seeds count up from config.seed.
      workdir: the folder for the teachers, their stored outputs and the runs METHOD/seed_N/.

    Raises:
      InputError: a folder contains another run. No student is trained.
    """
    config, teachers = share_teachers(config, plans, workdir)
    grid = {
        method: {
            f"{method}/seed_{seed}": row_config(config, method, seed=seed)
            for seed in range(config.seed, config.seed + seeds)
        }
        for method in plans
    }
    for folders in grid.values():
        for folder, run_config in folders.items():
            check_run_folder(run_config, workdir / folder)

    results: dict[str, list[dict[str, Any]]] = {}
    diverged: dict[str, str] = {}
    for method, folders in grid.items():
        try:
            results[method] = [
                _run(run_config, folder, workdir, teachers)
                for folder, run_config in folders.items()
            ]
        except DivergedError as error:
            diverged[method] = str(error)
            cli.print_on_primary(f"{method}: diverged and is left out: {error}")
    return Grid({method: list(grid[method]) for method in results}, results, diverged, teachers)


def _run(
    config: ConfigDict, folder: str, workdir: Path, teachers: Mapping[str, FinishedTeacher]
) -> dict[str, Any]:
    """Trains a student and returns the contents of its results.json."""
    result = runs.run(config, workdir / folder, loaded=teachers)
    score = percent(result[STUDENT]["test"])
    cli.print_on_primary(f"{folder}: test {result['metric']} {score}")
    return result


def test_logits(grid: Grid, workdir: Path) -> dict[str, list[np.ndarray]]:
    """Returns the logits [N, C] of each method's students on the N test examples."""

    def logits(folder: Path) -> np.ndarray:
        stored = _stored_predictions(folder)
        if isinstance(stored, np.ndarray):
            return stored
        return runs.predict(folder, teachers=False)[STUDENT]

    return {
        method: [logits(workdir / folder) for folder in folders]
        for method, folders in grid.folders.items()
    }


def test_texts(grid: Grid, workdir: Path, beams: int) -> dict[str, list[list[str]]]:
    """Returns the texts that each method's students generate for the N test examples."""

    def texts(folder: Path) -> list[str]:
        stored = _stored_predictions(folder) if beams == 1 else None
        if not isinstance(stored, Texts):
            stored = runs.generate(folder, beams=beams)[STUDENT]
        return stored.texts

    return {
        method: [texts(workdir / folder) for folder in folders]
        for method, folders in grid.folders.items()
    }


def _stored_predictions(folder: Path) -> np.ndarray | Texts | None:
    """Returns what a run has stored; None with several processes, of which one can read it."""
    return runs.read_test_predictions(folder) if processes.count() == 1 else None


def teacher_test_logits(grid: Grid, plans: Mapping[str, Plan]) -> np.ndarray | None:
    """Returns the logits [N, C] of the teacher; None if no method shares it."""
    # Only the plans with the teacher tokenise texts for it.
    plan = next((plan for plan in plans.values() if TEACHER in plan.recipes), None)
    if plan is None or TEACHER not in grid.teachers:
        return None
    return Evaluator(plan).logits(grid.teachers[TEACHER].model, "test")


def changed(config: ConfigDict, **changes: Any) -> ConfigDict:
    """Returns a copy of a configuration with changed fields."""
    copy = config.copy_and_resolve_references()
    copy.update(changes)
    return copy


def row_config(config: ConfigDict, row: str, **changes: Any) -> ConfigDict:
    """Returns the configuration of a row: of one of `config.variants`, or of a method.

    Args:
      config: the configuration of the comparison.
      row: the name of the variant or of the method.
      **changes: further fields to change.

    Raises:
      InputError: a variant changes a field that does not exist, or to another type.
    """
    variants = config.variants.to_dict()
    fields = changed(config, **changes)
    fields.variants, fields.search = ConfigDict(), ConfigDict()
    if row not in variants:
        if row not in METHODS and variants:
            raise InputError(
                f"--methods: expected methods among {', '.join(METHODS)} or variants among"
                f" {', '.join(variants)}, got {row!r}; correct it"
            )
        fields.method = row
        return fields
    try:
        fields.update(variants[row])
    except (AttributeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"config.variants.{row}: expected fields of the configuration, got {variants[row]}:"
            f" {reason}"
        ) from None
    return fields


def check_equal_updates(plans: Mapping[str, Plan]) -> None:
    """Raises InputError unless all students make the same number of updates, up to half an epoch.

    Rows that train on more examples have fewer epochs, and longer ones.
    """
    updates = {method: planned_updates(plan) for method, plan in plans.items()}
    epochs = [updates[method] / plan.method.epochs for method, plan in plans.items()]
    if max(updates.values()) - min(updates.values()) > max(epochs) / 2:
        raise InputError(
            "expected methods with the same number of student updates, up to half an epoch, got"
            f" {updates}; change their epochs, or give --equal_updates=False"
        )


def share_teachers(
    config: ConfigDict, plans: Mapping[str, Plan], workdir: Path
) -> tuple[ConfigDict, dict[str, FinishedTeacher]]:
    """Trains the teachers of all methods, or loads those whose path is given.

    A teacher that the configuration has no path for cannot be shared: each run trains its own.

    Returns:
      The configuration with the paths of the trained teachers, and the teachers by name.

    Raises:
      InputError: two rows need different teachers of one name.
    """
    fields = traverse_util.flatten_dict(config.to_dict(), sep=".")
    shared: dict[str, tuple[Plan, Recipe, str]] = {}
    for row, plan in plans.items():
        # Teachers come after those that they train, so that the reverse is the order of training.
        for name, recipe in reversed(list(plan.recipes.items())):
            field = recipe.field.removeprefix("config.").rpartition(".")[0] + ".path"
            if field not in fields:
                continue
            _, first, _ = shared.setdefault(name, (plan, recipe, field))
            if recipe_key(recipe) != recipe_key(first):
                raise InputError(
                    f"--methods: expected rows that train the same {name}, got {row}, which trains"
                    " another one than the rows before; compare it in another workdir"
                )
    teachers = {name: obtain_teacher(plan, name, workdir) for name, (plan, _, _) in shared.items()}
    paths = {}
    for name, (_, recipe, field) in shared.items():
        if creates_teacher(recipe):
            assert not isinstance(recipe, Frozen), "expected a teacher that the run creates"
            paths[field] = str(workdir / name.removesuffix(recipe.suffix))
    config = changed(config)
    config.update_from_flattened_dict(paths)
    if not config.teacher.cache_dir:
        config.teacher.cache_dir = str(workdir / STORED_OUTPUTS)
    return config, teachers


def check_run_folder(run_config: ConfigDict, folder: Path) -> None:
    """Raises InputError if a folder contains another run."""
    settings, dataset, method = read_config(run_config)
    key = resume_key(settings, dataset.task, method.teachers)
    processes.on_primary(functools.partial(records.check, folder, "run", key))
