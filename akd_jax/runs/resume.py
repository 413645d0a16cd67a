"""The part of a configuration that must match to resume a run or to use a teacher again."""

import hashlib
from collections.abc import Mapping
from typing import Any

from akd_jax import models
from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, readable_path
from akd_jax.host.settings import Section
from akd_jax.methods.base import RunSettings, TrainingConfig
from akd_jax.models import huggingface
from akd_jax.runs import config
from akd_jax.training.method import Frozen, Pretrained, Recipe, Trained
from akd_jax.types import Task


def resume_key(settings: RunSettings, task: Task, teachers: Mapping[str, Recipe]) -> dict[str, Any]:
    """Returns the part of a run's configuration that must match to resume it.

    It has the settings that all methods share and the sections that the method reads, without
    file paths. Teachers are described by the recipes that the method reads: a digest of the
    weights stands for a finished teacher and for a pretrained network, so that their folders can
    be moved.

    Args:
      settings: the configuration.
      task: the task of the data set.
      teachers: the recipes of the method's teachers.
    """
    sections = config.method_sections(settings)
    others = {"teacher", "variants", "search"}
    shared = settings.model_dump(include=set(RunSettings.model_fields) - others)
    del shared["dataset"]["data_dir"]
    shared["student"]["model"] = model_key(settings.student.model)
    return {
        **shared,
        **{name: _without_teachers(section) for name, section in sections.items()},
        "teachers": {name: recipe_key(recipe) for name, recipe in teachers.items()},
        "stored": stored_key(settings),
        "labels": task.output_names,
        **({"data": task.data_digest} if task.data_digest else {}),
    }


def recipe_key(recipe: Recipe) -> dict[str, Any]:
    """Returns the part of a teacher's configuration that must match to use the teacher again."""
    if isinstance(recipe, Pretrained):
        path = readable_path(recipe.field, recipe.path)
        if huggingface.is_folder(path):
            return {"digest": huggingface.Folder(path).digest()}
        return {"digest": read_teacher_results(recipe.field, path)["digest"]}
    if isinstance(recipe, Frozen):
        return {"model": model_key(recipe.model)}
    others = recipe.method.teachers.items()
    return {
        **recipe.settings,
        "seed": recipe.seed,
        "model": model_key(recipe.model),
        **({"teachers": {name: recipe_key(other) for name, other in others}} if others else {}),
    }


def stored_key(settings: RunSettings) -> dict[str, Any]:
    """Returns the settings of stored outputs that matter to the networks which learn from them."""
    return settings.teacher.model_dump(include={"views", "stored_dtype", "stored_top_k"})


def model_key(spec: str) -> str:
    """Returns a model's NAME:ARGUMENT, with a digest of the weights instead of a folder."""
    folder = models.folder(spec)
    return spec if folder is None else f"{spec.partition(':')[0]}:{folder.digest()}"


def creates_teacher(recipe: Recipe) -> bool:
    """Returns whether a run trains a teacher or imports it from a Hugging Face folder.

    Otherwise, the path of the recipe is the folder of a finished teacher; or the run only reads the
    pretrained weights of a network.
    """
    if not isinstance(recipe, Pretrained):
        return isinstance(recipe, Trained)
    return huggingface.is_folder(readable_path(recipe.field, recipe.path))


def read_teacher_results(field: str, folder: Path) -> dict[str, Any]:
    """Reads the results of a finished teacher.

    Args:
      field: the field of the configuration with the folder, for the error message.
      folder: the folder of the teacher.

    Raises:
      InputError: the folder contains no finished teacher.
    """
    results = processes.on_primary(lambda: records.read(folder / records.RESULTS))
    if results is None or not {"model", "labels", "digest"} <= results.keys():
        raise InputError(
            f"{field}: expected the folder of a finished teacher, got {folder}; give the teacher"
            " folder of a finished run or a Hugging Face folder, or leave the path empty to train"
            " a teacher"
        )
    return results


def _without_teachers(section: Section) -> dict[str, Any]:
    """Returns a section without the descriptions of teachers, which their recipes contain.

    Digests stand for a file that the section names by `path` and for the folder of a
    `sentence_encoder`, so that they can be moved.

    Raises:
      InputError: there is no such file.
    """

    def describes_teachers(value: Any) -> bool:
        values = value.values() if isinstance(value, dict) else [value]
        return any(isinstance(x, TrainingConfig) for x in values)

    fields = type(section).model_fields
    values = section.model_dump(
        exclude={name for name in fields if describes_teachers(getattr(section, name))}
    )
    if values.get("path"):
        path = readable_path("path", values["path"])
        if not path.is_file():
            raise InputError(f"path: expected a file, got {path}, which is none; correct the path")
        values["path"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if values.get("sentence_encoder"):
        values["sentence_encoder"] = model_key(values["sentence_encoder"])
    return values
