"""Creates the teachers of a run: trains them, or imports them from Hugging Face folders."""

from typing import Any

import jax

from akd_jax.host import processes, records
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.files import Path
from akd_jax.models.network import Model, Network, count_parameters
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.resume import creates_teacher, recipe_key, stored_key
from akd_jax.runs.scores import test_scores
from akd_jax.runs.setup import STUDENT, Plan
from akd_jax.runs.stages import train_method
from akd_jax.runs.teachers import (
    FinishedTeacher,
    load_teacher,
    model_spec,
    restore_best,
    teacher_scores,
)
from akd_jax.teachers.stored import teacher_digest
from akd_jax.training.evaluate import finite_scores
from akd_jax.training.method import Frozen, Pretrained, Trained

_IMPORTED = "imported"  # The stage of a teacher that comes from a Hugging Face folder.


def obtain_teacher(plan: Plan, name: str, workdir: Path) -> FinishedTeacher:
    """Loads a teacher; trains or imports it first if necessary.

    If the recipe is the folder of a finished teacher, it is loaded from there. If the recipe is a
    Hugging Face folder, its model is imported into workdir/NAME. Otherwise the teacher is trained
    in workdir/NAME, or its training is resumed.

    workdir/NAME contains checkpoints, config.json and results.json. Several runs can share it:
    give it as the path of `config.teacher` or `config.takd.assistant`.

    Args:
      plan: the plan of a run that reads the teacher.
      name: the name of the teacher.
      workdir: the folder of the run.

    Raises:
      InputError: the folder contains a different teacher, or cannot be written.
    """
    if creates_teacher(plan.recipes[name]):
        _create_teacher(plan, name, workdir)
    return load_teacher(plan, name, workdir)


def _create_teacher(plan: Plan, name: str, workdir: Path) -> None:
    """Trains or imports a teacher in workdir/NAME, unless it is finished there."""
    settings, folder, recipe = plan.settings, workdir / name, plan.recipes[name]
    assert not isinstance(recipe, Frozen), "expected a teacher that the run creates"
    network = plan.teachers[name]
    fields = {"dataset", "dtype", "batch_size", "grad_accumulation_steps"}
    config = settings.model_dump(include=fields)
    del config["dataset"]["data_dir"]  # The data can be moved.
    if settings.skip_nonfinite:
        config["skip_nonfinite"] = True
    if plan.dataset.task.data_digest:
        config["data"] = plan.dataset.task.data_digest
    if isinstance(recipe, Trained) and recipe.method.teachers:
        config["stored"] = stored_key(settings)
    else:
        del config["dataset"]["unlabelled_size"]  # It learns only from labels.
    with records.lock_workdir(folder, "teacher", config | recipe_key(recipe)):
        if processes.on_primary(lambda: records.read(folder / records.RESULTS)) is not None:
            return
        teachers: dict[str, FinishedTeacher] = {}
        if isinstance(recipe, Pretrained):
            trained = _import_teacher(plan, network, folder)
        else:
            teachers = {
                other: obtain_teacher(plan, other, workdir) for other in recipe.method.teachers
            }
            trained = train_method(
                plan,
                name,
                {other: teacher.model for other, teacher in teachers.items()},
                workdir,
                seed=recipe.seed,
                # A network that learns from labels only sees a new view in every epoch.
                views=settings.teacher.views if teachers else 0,
                label=name,
            )
        scores = trained.pop(STUDENT)
        variables = restore_best(folder / scores["stage"], network, plan)
        results = {
            **scores,
            "model": model_spec(plan, name),
            "labels": plan.dataset.task.output_names,
            "digest": teacher_digest(network.module, variables),
            **teacher_scores(teachers),
            **trained,
        }
        processes.on_primary(lambda: records.write(folder / records.RESULTS, results))


def _import_teacher(plan: Plan, network: Network, folder: Path) -> dict[str, Any]:
    """Saves and evaluates a teacher from a Hugging Face folder; returns results as if trained."""
    variables = network.initial_variables(jax.random.key(0), plan.dataset.example)
    with Checkpoints(folder / _IMPORTED) as checkpoints:
        checkpoints.save(1, {"best": jax.device_get(variables)}, {})
    model, evaluator = Model(variables, network.apply), Evaluator(plan)
    scores = {"stage": _IMPORTED, "epoch": 0, "parameters": count_parameters(variables)}
    scores |= test_scores(plan, model, evaluator, str(folder))
    validation = finite_scores(evaluator.on("validation")(model, {}), f"{folder}, validation")
    scores["validation"] = validation[plan.dataset.task.metric]
    return {STUDENT: scores, "stages": []}
