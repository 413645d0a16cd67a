"""Checks a configuration and resolves the data, networks and stages that it names."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from akd_jax import data, methods
from akd_jax.data import Batches, Dataset, Examples, text
from akd_jax.data.augmentation import Augmentation
from akd_jax.host.errors import InputError
from akd_jax.host.files import readable_path
from akd_jax.methods.base import RunSettings
from akd_jax.models.network import Model, Network
from akd_jax.runs import config
from akd_jax.runs.checks import check_methods
from akd_jax.runs.networks import ModelSpec, build_network, load_vocabularies, tokenise_dataset
from akd_jax.runs.resume import creates_teacher, read_teacher_results
from akd_jax.training import parallel
from akd_jax.training.check import Reads
from akd_jax.training.method import Method, Pretrained, Recipe, Trained

STUDENT = "student"
STORED_OUTPUTS = "teacher_logits"  # The folder of the teachers' stored outputs.
_RESERVED = (STUDENT, STORED_OUTPUTS, "", ".", "..")  # No folders of teachers.


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked configuration with the objects that it names.

    Attributes:
      settings: the typed configuration.
      method: the stages that train the student.
      dataset: the examples.
      augmentation: draws the views of a training example.
      student: the student's network.
      recipes: the recipes of the teachers that the method reads, and of the teachers that train
        them, by name.
      teachers: the networks of these teachers.
      reads: what the loss of a stage reads of its teachers, by the names of the trained network
        and the stage; empty without teachers.
      vocabularies: the vocabularies of all networks, if the inputs are texts.
    """

    settings: RunSettings
    method: Method
    dataset: Dataset
    augmentation: Augmentation
    student: Network
    recipes: Mapping[str, Recipe]
    teachers: Mapping[str, Network]
    reads: Mapping[tuple[str, str], Mapping[str, Reads]]
    vocabularies: tuple[text.Vocabulary, ...]

    def trained(self, name: str) -> tuple[Method, Network]:
        """Returns the method and the network of the student, or of a teacher to train."""
        if name == STUDENT:
            return self.method, self.student
        recipe = self.recipes[name]
        assert isinstance(recipe, Trained), "expected a teacher that the run trains"
        return recipe.method, self.teachers[name]

    def batches(self, split: str | Examples, **options: Any) -> Batches:
        """Returns the batches of a split, with the rows that belong to this process.

        Args:
          split: the name of a split, or examples with the same kind of inputs.
          **options: further arguments of `Batches`.
        """
        examples = self.dataset.splits[split] if isinstance(split, str) else split
        return Batches(
            examples,
            self.settings.batch_size,
            buckets=self.dataset.buckets,
            part=(jax.process_index(), jax.process_count()),
            **options,
        )

    def tokenise(self, texts: np.ndarray) -> tuple[Examples, int]:
        """Tokenises texts without labels for the networks of this plan.

        Args:
          texts: the columns of the examples, str [N, columns].

        Returns:
          The examples, and the number of truncated texts. Their labels are zeros; or the tokens of
          the last column, if the task is to generate it.
        """
        options = self.settings.dataset
        inputs, truncated = text.read(
            self.vocabularies, texts, self.dataset.kinds, options.max_lengths
        )
        label = self.vocabularies[0].label
        labels = (
            np.zeros(len(texts), np.int32) if label is None else label(texts, options.max_length)
        )
        return Examples(inputs, labels), int(truncated.sum())


def read_config(run_config: Any) -> tuple[RunSettings, Dataset, Method]:
    """Returns the settings of a configuration, its data set and its method; checks no network.

    Args:
      run_config: an ml_collections ConfigDict or a dict with the fields of configs/default.py.

    Raises:
      InputError: a value is not valid; the message names its field.
    """
    settings = config.parse(run_config)
    parallel.check_batch_size(settings.batch_size, settings.grad_accumulation_steps)
    dataset = data.load(settings.dataset)
    method = methods.METHODS[settings.method].build(settings, dataset.task)
    return settings, dataset, _with_frozen(method, settings.student.frozen)


def _with_frozen(method: Method, frozen: str) -> Method:
    """Returns a method whose stages also freeze the paths of the setting student.frozen."""
    paths = tuple(path.strip() for path in frozen.split(",") if path.strip())
    stages = (
        dataclasses.replace(stage, frozen=tuple(dict.fromkeys((*stage.frozen, *paths))))
        for stage in method.stages
    )
    return dataclasses.replace(method, stages=tuple(stages))


def make_plan(run_config: Any, *, teachers: bool = True) -> Plan:
    """Checks a configuration; compiles no network and writes nothing.

    Args:
      run_config: an ml_collections ConfigDict or a dict with the fields of configs/default.py.
      teachers: whether to check the teachers too.

    Raises:
      InputError: a value is not valid; the message names its field.
    """
    settings, dataset, method = read_config(run_config)
    recipes = _all_recipes(method) if teachers else {}
    specs = {STUDENT: ModelSpec("config.student.model", settings.student.model)}
    for name, recipe in recipes.items():
        specs[name] = _teacher_spec(recipe, settings.dataset.name, dataset)
    vocabularies: dict[str, text.Vocabulary] = {}
    if dataset.texts:
        vocabularies = load_vocabularies(settings.dataset, dataset, specs)
        trained = [x.method for x in recipes.values() if isinstance(x, Trained)]
        extra = [v for x in (method, *trained) for v in x.vocabularies]
        dataset = tokenise_dataset(settings.dataset, dataset, [*vocabularies.values(), *extra])
    networks: dict[str, Network] = {}
    shapes: dict[str, Model] = {}
    for name, spec in specs.items():
        preprocess = vocabularies.get(name, dataset.normalise)
        networks[name], variables = build_network(
            spec, preprocess, settings.dtype, settings.dataset.name, dataset
        )
        shapes[name] = Model(variables, networks[name].apply_shapes)
    reads: Mapping[tuple[str, str], Mapping[str, Reads]] = {}
    if teachers:
        methods_by_name = {n: x.method for n, x in recipes.items() if isinstance(x, Trained)}
        reads = check_methods(settings, dataset, {STUDENT: method, **methods_by_name}, shapes)
    return Plan(
        settings=settings,
        method=method,
        dataset=dataset,
        augmentation=Augmentation(
            settings.dataset.crop_padding, settings.dataset.flip, settings.dataset.seed
        ),
        student=networks.pop(STUDENT),
        recipes=recipes,
        teachers=networks,
        reads=reads,
        vocabularies=tuple(dict.fromkeys(vocabularies.values())),
    )


def _all_recipes(method: Method) -> dict[str, Recipe]:
    """Returns the recipes of all teachers by name; checks that the names can be folders."""
    recipes = dict(method.all_teachers())
    for name in recipes:
        if name in _RESERVED or "/" in name:
            raise InputError(
                f"{method.name}: expected the name of a folder for a teacher, other than"
                f" {STUDENT} and {STORED_OUTPUTS}, got {name!r}; rename the teacher"
            )
    return recipes


def _teacher_spec(recipe: Recipe, dataset_name: str, dataset: Dataset) -> ModelSpec:
    """Returns the specification of a teacher; checks the labels of a finished one."""
    if not isinstance(recipe, Pretrained):
        return ModelSpec(recipe.field, recipe.model)
    if creates_teacher(recipe):
        return ModelSpec(recipe.field, f"huggingface:{recipe.path}", fine_tuned=True)
    results = read_teacher_results(recipe.field, readable_path(recipe.field, recipe.path))
    actual, expected = results["labels"], dataset.task.output_names
    if actual != expected:
        count_only = len(actual) != len(expected)
        raise InputError(
            f"{recipe.field}: expected a teacher for the student's data set {dataset_name}, with"
            f" {_describe_labels(dataset, expected, count_only)}, got one with"
            f" {_describe_labels(dataset, actual, count_only)}; give a teacher for the same task"
        )
    return ModelSpec(recipe.field, results["model"])


def _describe_labels(dataset: Dataset, labels: Sequence[str], count_only: bool) -> str:
    if not labels:
        return "a number to predict"
    if count_only:
        return f"{len(labels)} classes"
    return labels[0] if dataset.task.target else f"the labels {', '.join(labels)}"
