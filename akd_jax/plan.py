"""What a configuration names, checked as far as that goes without compiling or writing."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from akd_jax import config, data, methods, models, parallel, records
from akd_jax.config import RunConfig
from akd_jax.data import Batches, Dataset
from akd_jax.data.augmentation import Augmentation
from akd_jax.errors import InputError
from akd_jax.types import Method, Network


@dataclasses.dataclass(frozen=True)
class Plan:
    """A configuration that was checked, and what it names. Nothing is compiled or written.

    Attributes:
      settings: the configuration, typed.
      method: the stages that train the student.
      dataset: the examples.
      augmentation: the views of a training example.
      student: the student's network.
      teachers: the networks of the teachers that the method reads, and of those that these
        learn from themselves, by name.
    """

    settings: RunConfig
    method: Method
    dataset: Dataset
    augmentation: Augmentation
    student: Network
    teachers: Mapping[str, Network]

    def batches(self, split: str, **options: Any) -> Batches:
        """The batches of a split."""
        return Batches(self.dataset.splits[split], self.settings.batch_size, **options)


def plan(run_config: Any) -> Plan:
    """Checks a configuration as far as that goes without compiling or writing.

    Args:
      run_config: an ml_collections ConfigDict or a dict, with the fields of configs/default.py.

    Raises:
      InputError: something does not fit; the message names the field.
    """
    settings = config.parse(run_config)
    method = methods.build(settings)
    parallel.check_batch_size(settings.batch_size)
    dataset = data.load(settings.dataset)
    return Plan(
        settings=settings,
        method=method,
        dataset=dataset,
        augmentation=Augmentation(
            settings.dataset.crop_padding, settings.dataset.flip, settings.dataset.seed
        ),
        student=_network("config.student.model", settings.student.model, settings, dataset),
        teachers={
            name: _network(*_teacher_spec(name, settings, dataset), settings, dataset)
            for name in _teachers_behind(settings, method.teachers)
        },
    )


def identity(planned: Plan) -> dict[str, Any]:
    """What makes two runs the same: the configuration, but for the places of files.

    Teachers that the method does not read are left out, and those found at a path stand
    there by the digest of their weights.
    """
    settings = planned.settings
    found = settings.model_dump()
    del found["dataset"]["data_dir"]
    found |= {"teacher": None, "takd": None}
    for name in planned.method.teachers:
        found |= teacher_identity(settings, name)
    return {**found, "views": settings.teacher.views}


def teacher_identity(settings: RunConfig, name: str) -> dict[str, Any]:
    """What makes two teachers the same, by the sections of the configuration."""
    section = methods.teacher_config(settings, name)
    field = methods.TEACHER_FIELDS[name]
    if section.path:
        results = finished_teacher(f"config.{field}.path", Path(section.path))
        return {field: {"digest": results["digest"]}}
    read = methods.TEACHERS[name](settings).teachers
    return {
        field: section.model_dump(exclude={"path", "views", "cache_dir"}),
        **{k: v for other in read for k, v in teacher_identity(settings, other).items()},
    }


def _teachers_behind(settings: RunConfig, names: Iterable[str]) -> Iterator[str]:
    """The names of teachers, and of those that they are trained by where they have no path."""
    for name in names:
        yield name
        if not methods.teacher_config(settings, name).path:
            yield from _teachers_behind(settings, methods.TEACHERS[name](settings).teachers)


def _network(field: str, spec: str, settings: RunConfig, dataset: Dataset) -> Network:
    """The network that a field names, checked to take the data set's inputs."""
    try:
        module = models.build(spec, dataset.num_classes, settings.dtype)
        network = Network(module, dataset.normalise)
        shapes(network, dataset)
    except InputError as error:
        raise InputError(f"{field}: {error}") from None
    return network


def _teacher_spec(name: str, settings: RunConfig, dataset: Dataset) -> tuple[str, str]:
    """The field that names a teacher's architecture, and the name; checked if it is trained."""
    section = methods.teacher_config(settings, name)
    field = f"config.{methods.TEACHER_FIELDS[name]}"
    if not section.path:
        return f"{field}.model", section.model
    results = finished_teacher(f"{field}.path", Path(section.path))
    if results["num_classes"] != dataset.num_classes:
        raise InputError(
            f"{field}.path: expected a teacher of {dataset.num_classes} classes, as the"
            f" student's data set {settings.dataset.name} has, got one of"
            f" {results['num_classes']}; give a teacher of the same task"
        )
    return f"{field}.path", results["model"]


def finished_teacher(field: str, folder: Path) -> dict[str, Any]:
    """The results of a teacher that was trained before."""
    results = records.read(folder / records.RESULTS)
    if results is None or not {"model", "num_classes", "digest"} <= results.keys():
        raise InputError(
            f"{field}: expected the folder of a finished teacher, got {folder}; give such a"
            " folder of a finished run, or leave the path empty to train one"
        )
    return results


def shapes(network: Network, dataset: Dataset) -> Any:
    """Shapes and types of a network's variables."""
    example = dataset.splits["train"].inputs[:1]
    return jax.eval_shape(network.init, jax.random.key(0), example)
