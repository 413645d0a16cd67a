"""Teachers of a run: loading, and their outputs on the training examples."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from akd_jax import models
from akd_jax.data import Examples
from akd_jax.data.dataset import UNLABELLED_SPLIT
from akd_jax.data.text import Vocabulary
from akd_jax.host import processes, records
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute
from akd_jax.models.network import Model, Network
from akd_jax.runs.examples import keep_inputs
from akd_jax.runs.resume import creates_teacher, read_teacher_results
from akd_jax.runs.setup import STORED_OUTPUTS, Plan
from akd_jax.teachers import stored
from akd_jax.teachers.selection import Selection
from akd_jax.training.evaluate import Predictor
from akd_jax.training.method import Frozen, Pretrained
from akd_jax.training.stage import Stage
from akd_jax.types import Variables

TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class FinishedTeacher:
    """A finished teacher.

    Attributes:
      model: the network with its best variables.
      results: the content of its results.json; {} for a network that is only read.
    """

    model: Model
    results: Mapping[str, Any]

    def of(self, network: Network) -> "FinishedTeacher":
        """Returns the same teacher as the network of another plan, which preprocesses its data."""
        return FinishedTeacher(Model(self.model.variables, network.apply), self.results)


def load_teacher(plan: Plan, name: str, workdir: Path) -> FinishedTeacher:
    """Loads a finished teacher from the path of its recipe or from workdir/NAME; writes nothing.

    Raises:
      InputError: there is no finished teacher, or its weights are not those that it describes.
    """
    recipe = plan.recipes[name]
    folder, field = workdir / name, recipe.field
    if isinstance(recipe, Frozen):
        frozen = plan.teachers[name]
        variables = frozen.initial_variables(jax.random.key(0), plan.dataset.example)
        return FinishedTeacher(Model(variables, frozen.apply), {})
    if isinstance(recipe, Pretrained) and not creates_teacher(recipe):
        folder = absolute(recipe.path)
    results = read_teacher_results(field, folder)
    network = plan.teachers[name]
    variables = restore_best(folder / results["stage"], network, plan)
    if stored.teacher_digest(network.module, variables) != results["digest"]:
        raise InputError(
            f"{folder}: expected the weights that its {records.RESULTS} describes, got different"
            " ones; restore the folder of the finished teacher"
        )
    return FinishedTeacher(Model(variables, network.apply), results)


def restore_best(folder: Path, network: Network, plan: Plan) -> Variables:
    """Restores the best variables from a stage's latest checkpoint.

    Raises:
      InputError: the folder has no checkpoints.
    """
    shapes = network.variable_shapes(plan.dataset.example)
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    restored = None
    if processes.on_primary(folder.exists):
        with Checkpoints(folder, read_only=True) as checkpoints:
            restored = checkpoints.restore({"best": template})
    if restored is None:
        raise InputError(
            f"{folder}: expected checkpoints, got none; give a complete folder, or train again in"
            " another folder"
        )
    return restored[0]["best"]


def store_name(stage: Stage, teacher: str) -> str:
    """Returns the name of a teacher's outputs on the training examples of a stage.

    The stages that learn the training split share a store.
    """
    return teacher if stage.data is None else f"{teacher}.{stage.name}"


def selections(plan: Plan, trained: str, stage: Stage) -> dict[str, Selection]:
    """Returns the part of each teacher's outputs that is stored for a stage, by teacher.

    Args:
      plan: the plan of the run.
      trained: the name of the network that the stage trains.
      stage: the stage.
    """
    method, _ = plan.trained(trained)
    sharing = [stage]
    if stage.data is None:
        sharing = [other for other in method.stages if other.data is None]
    features: dict[str, set[str]] = {name: set() for name in stage.teachers}
    for other in sharing:
        for name, reads in plan.reads[trained, other.name].items():
            if name in features:
                features[name] |= reads.features
    dtype, top_k = plan.settings.teacher.stored_dtype, plan.settings.teacher.stored_top_k
    return {name: Selection(tuple(sorted(names)), dtype, top_k) for name, names in features.items()}


def stored_outputs(
    plan: Plan,
    trained: str,
    stage: Stage,
    teachers: Mapping[str, Model],
    examples: Examples,
    workdir: Path,
) -> dict[str, stored.StoredOutputs]:
    """Loads the outputs of a stage's teachers for all views; computes missing views.

    Unlabelled examples beside the training split have a separate store, with all of them, so
    that runs with other numbers of them share it.

    Args:
      plan: the plan of the run.
      trained: the name of the network that the stage trains.
      stage: the stage.
      teachers: the teachers by name.
      examples: the training examples of the stage.
      workdir: the folder of the run.

    Returns:
      The outputs by the names of the teachers.
    """
    splits, size = plan.dataset.splits, plan.settings.unlabelled_examples(stage)
    parts = (
        {"": splits["train"], ".unlabelled": splits[UNLABELLED_SPLIT]} if size else {"": examples}
    )

    def load_part(name: str, selection: Selection, part: str) -> stored.StoredOutputs:
        run_teacher = Predictor(plan.augmentation.view, selection)
        batches = plan.batches(keep_inputs(parts[part], [plan.teachers[name]], ()))
        return stored.load_or_build(
            stored_folder(plan, workdir),
            store_name(stage, name) + part,
            _fingerprint(plan, name, teachers[name], parts[part], selection),
            plan.settings.teacher.views,
            lambda view: run_teacher(teachers[name], batches, view),
        )

    def load(name: str, selection: Selection) -> stored.StoredOutputs:
        labelled, *others = (load_part(name, selection, part) for part in parts)
        return stored.join(labelled, others[0], size) if others else labelled

    return {name: load(name, x) for name, x in selections(plan, trained, stage).items()}


def placeholder_outputs(
    plan: Plan, teacher: Model, selection: Selection, examples: int
) -> stored.StoredOutputs:
    """Returns zeros in place of one view of a teacher's outputs; they take no memory.

    Args:
      plan: the plan of the run.
      teacher: the teacher; only the shapes of its variables matter.
      selection: the part of its outputs that is stored.
      examples: the number of examples.
    """
    shapes = jax.eval_shape(lambda m, x: selection(m(x)), teacher, plan.dataset.example)

    def zeros(shape: Any) -> np.ndarray:
        return np.broadcast_to(np.zeros((), shape.dtype), (examples, *shape.shape[1:]))

    return stored.StoredOutputs([jax.tree.map(zeros, shapes)], 0.0)


def _fingerprint(
    plan: Plan, name: str, model: Model, examples: Examples, selection: Selection
) -> stored.Fingerprint:
    """Returns the fingerprint of a teacher's outputs."""
    settings, network, augmentation = plan.settings, plan.teachers[name], plan.augmentation
    inputs = examples.inputs
    if isinstance(network.preprocess, Vocabulary):
        inputs = network.preprocess(inputs)  # Do not depend on other networks' vocabularies.
    return stored.Fingerprint(
        teacher=stored.teacher_digest(network.module, model.variables),
        data=stored.digest(inputs, name=repr(network.preprocess)),
        augmentation=f"crop_padding {augmentation.crop_padding}, flip {augmentation.flip}",
        seed=augmentation.seed,
        precision=stored.describe_precision(settings.dtype),
        selection=repr(selection),
    )


def stored_folder(plan: Plan, workdir: Path) -> Path:
    """Returns the folder of the stored outputs of all teachers."""
    shared = plan.settings.teacher.cache_dir
    return absolute(shared) if shared else workdir / STORED_OUTPUTS


def model_spec(plan: Plan, name: str) -> str:
    """Returns the specification of a teacher's network, with absolute paths."""
    recipe = plan.recipes[name]
    spec = f"huggingface:{recipe.path}" if isinstance(recipe, Pretrained) else recipe.model
    return models.absolute(spec)


def teacher_scores(teachers: Mapping[str, FinishedTeacher]) -> dict[str, Any]:
    """Returns the scores and the size of each teacher that predicts the labels, by name.

    'teacher' is always a key: with TAKD, its scores come from the results of the assistant.
    """
    scores: dict[str, Any] = {TEACHER: None}
    for name, teacher in teachers.items():
        if not teacher.results.get("metrics"):  # It is only read, or does not predict labels.
            continue
        # Teachers of earlier versions have no number of parameters in their results.
        fields = [x for x in ("validation", "test", "parameters") if x in teacher.results]
        scores[name] = {field: teacher.results[field] for field in fields}
        if name != TEACHER and scores[TEACHER] is None:
            scores[TEACHER] = teacher.results.get(TEACHER)
    return scores
