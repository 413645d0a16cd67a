"""Loads, evaluates and applies a finished run."""

from collections.abc import Mapping

import numpy as np

from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute
from akd_jax.models.network import Model
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.resume import creates_teacher, read_teacher_results, resume_key
from akd_jax.runs.setup import STUDENT, Plan, make_plan
from akd_jax.runs.teachers import load_teacher, restore_best
from akd_jax.training.method import Frozen, Pretrained, Trained
from akd_jax.training.texts import Texts


def predict(
    workdir: str | Path, split: str = "test", *, teachers: bool = True
) -> dict[str, np.ndarray]:
    """Computes the logits of a finished run's student and teachers on a split.

    Args:
      workdir: the folder of a finished run.
      split: 'train', 'validation', 'test' or another split of the data set.
      teachers: whether to compute the teachers' logits too.

    Returns:
      The logits, float32 [N, C] in the order of the split, under 'student' and the names of the
      teachers.

    Raises:
      InputError: the folder contains no finished run, its task is to generate texts, or the data
        set has no such split.
    """
    plan, models = load(workdir, teachers=teachers)
    check_split(plan, split)
    if plan.dataset.task.target is not None:
        raise InputError(
            f"{workdir}: expected a run that predicts labels, got one that generates texts; use"
            " `generate`"
        )
    evaluator = Evaluator(plan)
    return {name: evaluator.logits(model, split) for name, model in models.items()}


def generate(
    workdir: str | Path,
    split: str = "test",
    *,
    teachers: bool = False,
    beams: int = 1,
    length_penalty: float = 0.0,
) -> dict[str, Texts]:
    """Generates the texts of a finished run's student and teachers for a split.

    Args:
      workdir: the folder of a finished run.
      split: 'train', 'validation', 'test' or another split of the data set.
      teachers: whether the teachers generate texts too.
      beams: the number of beams; 1 decodes greedily.
      length_penalty: the exponent of the length by which the score of a beam is divided.

    Returns:
      The texts in the order of the split, under 'student' and the names of the teachers.

    Raises:
      InputError: the folder contains no finished run, its task is not to generate texts, or the
        data set has no such split.
    """
    plan, models = load(workdir, teachers=teachers)
    check_split(plan, split)
    if plan.dataset.task.target is None:
        raise InputError(
            f"{workdir}: expected a run that generates texts, got one that predicts labels; use"
            " `predict`"
        )
    evaluator = Evaluator(plan, beams=beams, length_penalty=length_penalty)
    return {name: evaluator.texts(model, split) for name, model in models.items()}


def evaluate(workdir: str | Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Computes the metrics of a finished run's student and teachers on a split.

    Args:
      workdir: the folder of a finished run.
      split: 'train', 'validation', 'test' or another split of the data set.

    Returns:
      The metrics by name, under 'student' and the names of the teachers. Those that do not predict
      the labels, such as an encoder of sentences, are left out.

    Raises:
      InputError: the folder contains no finished run, or the data set has no such split.
    """
    return evaluate_models(*load(workdir), split)


def evaluate_models(
    plan: Plan, models: Mapping[str, Model], split: str
) -> dict[str, dict[str, float]]:
    """Computes the metrics of models that `load` returned; see `evaluate`."""
    check_split(plan, split)
    scores = Evaluator(plan).on(split)
    return {name: dict(scores(x, {})) for name, x in models.items() if _predicts_labels(plan, name)}


def load(workdir: str | Path, *, teachers: bool = True) -> tuple[Plan, dict[str, Model]]:
    """Loads the plan and the models of a finished run.

    Args:
      workdir: the folder of a finished run.
      teachers: whether to load the teachers too.

    Returns:
      The plan, and the models under 'student' and the names of the teachers, without those whose
      weights were deleted with the end of the run. The student is the one that was selected.

    Raises:
      InputError: the folder contains no finished run, or the data or pretrained weights that it
        was trained from are missing or have changed.
    """
    folder = absolute(workdir)
    record = processes.on_primary(lambda: records.read_config(folder))
    if record is None or record["kind"] != "run":
        actual = "none" if record is None else f"a {record['kind']}"
        raise InputError(
            f"{folder}: expected a finished run, got {actual}; give the workdir of a run"
        )
    if processes.on_primary(lambda: records.read(folder / records.RESULTS)) is None:
        raise InputError(
            f"{folder}: expected a finished run, got an unfinished one; run experiments.train on it"
            " first"
        )
    plan = make_plan(record["config"], teachers=teachers)
    recipes = plan.method.teachers if teachers else {}
    key = resume_key(plan.settings, plan.dataset.task, recipes)
    if not teachers:
        key["teachers"] = record["resume_key"]["teachers"]
    remedy = "restore the data and the folders that the run was trained from, or train again"
    records.check_resume_key(folder, "run", record, key, remedy=remedy)
    last_stage = folder / STUDENT / plan.method.stages[-1].name
    variables = restore_best(last_stage, plan.student, plan)
    models = {STUDENT: Model(variables, plan.student.apply)}
    for name, recipe in recipes.items():
        if plan.method.keeps_teachers or not creates_teacher(recipe):
            models[name] = load_teacher(plan, name, folder).model
    return plan, models


def _predicts_labels(plan: Plan, name: str) -> bool:
    """Returns whether a network of a finished run predicts the labels of the task."""
    recipe = plan.recipes.get(name)
    if isinstance(recipe, Frozen):
        return False
    if isinstance(recipe, Trained):
        return recipe.method.predicts_labels
    if isinstance(recipe, Pretrained) and not creates_teacher(recipe):
        return bool(read_teacher_results(recipe.field, absolute(recipe.path))["metrics"])
    return True


def check_split(plan: Plan, split: str) -> None:
    """Raises InputError if the data set has no split of this name."""
    if split not in plan.dataset.splits:
        raise InputError(
            f"split: expected one of {', '.join(plan.dataset.splits)}, got {split!r}; correct it"
        )
