"""Checks a configuration and resolves the data, networks and stages that it names."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from akd_jax import data, methods, models
from akd_jax.data import Batches, Dataset, Examples, text
from akd_jax.data.augmentation import Augmentation
from akd_jax.data.settings import DatasetConfig
from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, readable_path
from akd_jax.models import huggingface
from akd_jax.models.network import Network, Preprocess
from akd_jax.runs import config
from akd_jax.runs.config import RunConfig
from akd_jax.training import parallel
from akd_jax.training.stage import Method
from akd_jax.types import Tokens

STUDENT = "student"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked configuration with the objects that it names.

    Attributes:
      settings: the typed configuration.
      method: the stages that train the student.
      dataset: the examples.
      augmentation: draws the views of a training example.
      student: the student's network.
      teachers: the networks of the teachers that the method reads, and of the teachers that train
        them, by name.
      vocabularies: the vocabularies of all networks, if the inputs are texts.
    """

    settings: RunConfig
    method: Method
    dataset: Dataset
    augmentation: Augmentation
    student: Network
    teachers: Mapping[str, Network]
    vocabularies: tuple[text.Vocabulary, ...]

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
          texts: single texts [N, 1] or pairs [N, 2].

        Returns:
          The examples, with zeros as labels, and the number of truncated texts.
        """
        inputs, truncated = text.read(self.vocabularies, texts, self.settings.dataset.max_length)
        return Examples(inputs, np.zeros(len(texts), np.int32)), int(truncated.sum())


@dataclasses.dataclass(frozen=True)
class _ModelSpec:
    """The description of a network in the configuration.

    Attributes:
      field: the field of the configuration, for error messages.
      spec: NAME:ARGUMENT, the specification that `models.build` reads.
      fine_tuned: whether the network is a fine-tuned teacher in a Hugging Face folder.
    """

    field: str
    spec: str
    fine_tuned: bool = False

    @property
    def folder(self) -> huggingface.Folder | None:
        """The Hugging Face folder of the pretrained weights, if there is one."""
        return models.folder(self.spec)


def make_plan(run_config: Any, *, teachers: bool = True) -> Plan:
    """Checks a configuration without compiling or writing anything.

    Args:
      run_config: an ml_collections ConfigDict or a dict with the fields of configs/default.py.
      teachers: whether to check the teachers too.

    Raises:
      InputError: a value is not valid; the message names its field.
    """
    settings = config.parse(run_config)
    method = methods.build(settings)
    parallel.check_batch_size(settings.batch_size, settings.grad_accumulation_steps)
    dataset = data.load(settings.dataset)
    specs = {STUDENT: _ModelSpec("config.student.model", settings.student.model)}
    for name in _all_teachers(settings, method.teachers) if teachers else ():
        specs[name] = _teacher_spec(name, settings, dataset)
    vocabularies: dict[str, text.Vocabulary] = {}
    if dataset.texts:
        vocabularies = _load_vocabularies(settings.dataset, dataset, specs)
        dataset = _tokenise_dataset(settings.dataset, dataset, vocabularies)
    networks = {
        name: _build_network(model, vocabularies.get(name, dataset.normalise), settings, dataset)
        for name, model in specs.items()
    }
    return Plan(
        settings=settings,
        method=method,
        dataset=dataset,
        augmentation=Augmentation(
            settings.dataset.crop_padding, settings.dataset.flip, settings.dataset.seed
        ),
        student=networks.pop(STUDENT),
        teachers=networks,
        vocabularies=tuple(dict.fromkeys(vocabularies.values())),
    )


def resume_key(plan: Plan) -> dict[str, Any]:
    """Returns the part of a run's configuration that must match to resume it.

    It contains everything except file paths, and the labels of the task. It omits teachers that
    the method does not read. Digests of the weights stand for teachers with a path and for
    pretrained networks, so that their folders can be moved.
    """
    settings = plan.settings
    key = settings.model_dump()
    del key["dataset"]["data_dir"]
    key |= {"teacher": None, "takd": None}
    key[STUDENT]["model"] = _model_resume_key(settings.student.model)
    for name in plan.method.teachers:
        if name in plan.teachers:
            key |= teacher_resume_key(settings, name)
    return {**key, "views": settings.teacher.views, "labels": list(plan.dataset.task.labels)}


def teacher_resume_key(settings: RunConfig, name: str) -> dict[str, Any]:
    """Returns the part of a teacher's configuration that must match to reuse the teacher.

    The keys are the names of the sections of the configuration.
    """
    section = methods.teacher_config(settings, name)
    field = methods.TEACHER_FIELDS[name]
    path = readable_path(f"config.{field}.path", section.path)
    if section.path and huggingface.is_folder(path):
        return {field: {"digest": huggingface.Folder(path).digest()}}
    if section.path:
        return {field: {"digest": read_teacher_results(f"config.{field}.path", path)["digest"]}}
    teachers = methods.TEACHERS[name](settings).teachers
    return {
        field: {
            **section.model_dump(exclude={"path", "views", "cache_dir"}),
            "model": _model_resume_key(section.model),
        },
        **{k: v for other in teachers for k, v in teacher_resume_key(settings, other).items()},
    }


def creates_teacher(settings: RunConfig, name: str) -> bool:
    """Returns whether a run trains a teacher or imports it from a Hugging Face folder.

    Otherwise, the path in the configuration is the folder of a finished teacher.
    """
    path = methods.teacher_config(settings, name).path
    field = f"config.{methods.TEACHER_FIELDS[name]}.path"
    return not path or huggingface.is_folder(readable_path(field, path))


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


def shapes(network: Network, dataset: Dataset) -> Any:
    """Returns the shapes and types of a network's variables."""
    return jax.eval_shape(network.init, jax.random.key(0), dataset.example)


def _all_teachers(settings: RunConfig, names: Iterable[str]) -> Iterator[str]:
    """Yields the names of teachers and of the teachers that train them.

    A teacher with a path is not trained, so the teachers that trained it are omitted.
    """
    for name in names:
        yield name
        if not methods.teacher_config(settings, name).path:
            yield from _all_teachers(settings, methods.TEACHERS[name](settings).teachers)


def _teacher_spec(name: str, settings: RunConfig, dataset: Dataset) -> _ModelSpec:
    """Returns the specification of a teacher; checks the labels of a finished one."""
    section = methods.teacher_config(settings, name)
    field = f"config.{methods.TEACHER_FIELDS[name]}"
    if not section.path:
        return _ModelSpec(f"{field}.model", section.model)
    if creates_teacher(settings, name):
        return _ModelSpec(f"{field}.path", f"huggingface:{section.path}", fine_tuned=True)
    results = read_teacher_results(f"{field}.path", readable_path(f"{field}.path", section.path))
    actual, expected = results["labels"], list(dataset.task.labels)
    if actual != expected:
        count_only = len(actual) != len(expected)
        raise InputError(
            f"{field}.path: expected a teacher for the student's data set"
            f" {settings.dataset.name}, with {_describe_labels(expected, count_only)}, got one with"
            f" {_describe_labels(actual, count_only)}; give a teacher for the same task"
        )
    return _ModelSpec(f"{field}.path", results["model"])


def _build_network(
    model: _ModelSpec, preprocess: Preprocess | None, settings: RunConfig, dataset: Dataset
) -> Network:
    """Builds a network and checks that it accepts the inputs of the data set."""
    try:
        module = models.build(model.spec, dataset.task.outputs, settings.dtype)
        if model.folder is not None and not dataset.texts:
            raise InputError(
                f"expected a network for the images of the data set {settings.dataset.name}, got"
                f" {model.spec}, which reads texts; choose a network for images"
            )
        assert preprocess is not None, "expected a vocabulary or a normalisation"
        network = Network(module, preprocess)
        variable_shapes = shapes(network, dataset)
        if model.folder is not None:
            weights = huggingface.Weights(model.folder, dataset.task, model.fine_tuned)
            weights.match(variable_shapes)
            network = dataclasses.replace(network, pretrained=weights)
    except InputError as error:
        raise InputError(f"{model.field}: {error}") from None
    return network


def _describe_labels(labels: Sequence[str], count_only: bool) -> str:
    if not labels:
        return "a number to predict"
    return f"{len(labels)} classes" if count_only else f"the labels {', '.join(labels)}"


def _load_vocabularies(
    settings: DatasetConfig, dataset: Dataset, specs: Mapping[str, _ModelSpec]
) -> dict[str, text.Vocabulary]:
    """Loads the vocabulary of each network and checks that it fits the texts of the data set."""
    if settings.crop_padding or settings.flip:
        raise InputError(
            f"config.dataset: expected crop_padding 0 and flip False for the texts of"
            f" {settings.name}, got {settings.crop_padding} and {settings.flip}; texts have no"
            " augmentation"
        )
    vocabularies = {}
    for name, model in specs.items():
        try:
            folder = model.folder
            if folder is None:
                raise InputError(
                    f"expected huggingface:DIR, a network for the texts of the data set"
                    f" {settings.name}, got {model.spec!r}; give the folder of an encoder"
                )
            encoder, tokenizer = folder.encoder_config(), folder.load_tokenizer()
            if tokenizer.get_vocab_size() > encoder.vocab_size:
                raise InputError(
                    f"{folder.path}: expected a tokenizer of at most {encoder.vocab_size} tokens,"
                    f" the vocab_size of its config.json, got {tokenizer.get_vocab_size()} tokens;"
                    " take both from the same model"
                )
        except InputError as error:
            raise InputError(f"{model.field}: {error}") from None
        special_tokens = tokenizer.num_special_tokens_to_add(is_pair=dataset.example.shape[1] > 1)
        if not special_tokens < settings.max_length <= encoder.max_length:
            raise InputError(
                f"config.dataset.max_length: expected {special_tokens + 1} to {encoder.max_length},"
                f" more than the special tokens and at most the positions of {model.field}"
                f" {model.spec}, got {settings.max_length}; choose a length in this range"
            )
        vocabularies[name] = text.Vocabulary.of(tokenizer)
    return vocabularies


def _tokenise_dataset(
    settings: DatasetConfig, dataset: Dataset, vocabularies: Mapping[str, text.Vocabulary]
) -> Dataset:
    """Returns a data set of texts with the token ids of each vocabulary as inputs."""
    buckets = text.bucket_lengths(settings.max_length)
    splits = text.TokenisedSplits(
        dataset.splits,
        dict.fromkeys(vocabularies.values()),
        functools.partial(_tokenise_split, settings),
    )
    example, _ = text.read(vocabularies.values(), dataset.example, settings.max_length)
    return dataclasses.replace(
        dataset,
        splits=splits,
        example=example,
        buckets=buckets if settings.bucketing else buckets[-1:],
    )


@functools.lru_cache(maxsize=12)  # Enough for the splits of two data sets in two vocabularies.
def _tokenise_split(
    settings: DatasetConfig, split: str, vocabulary: text.Vocabulary
) -> tuple[Tokens, np.ndarray]:
    """Returns the tokens of a split, and a mask of its truncated texts."""
    texts = data.load(settings).splits[split].inputs
    return text.tokenise(vocabulary.tokenizer, texts, settings.max_length)


def _model_resume_key(spec: str) -> str:
    """Returns a model's NAME:ARGUMENT, with a digest of the weights instead of a folder."""
    folder = models.folder(spec)
    return spec if folder is None else f"huggingface:{folder.digest()}"
