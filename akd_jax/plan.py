"""What a configuration names, checked as far as that goes without compiling or writing."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from akd_jax import config, data, methods, models, parallel, processes, records
from akd_jax.config import DatasetConfig, RunConfig
from akd_jax.data import Batches, Dataset, Examples, text
from akd_jax.data.augmentation import Augmentation
from akd_jax.errors import InputError
from akd_jax.files import Path, readable_path
from akd_jax.models import huggingface
from akd_jax.types import Method, Network, Preprocess, Tokens

STUDENT = "student"


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
      vocabularies: of these networks, where the inputs are texts.
    """

    settings: RunConfig
    method: Method
    dataset: Dataset
    augmentation: Augmentation
    student: Network
    teachers: Mapping[str, Network]
    vocabularies: tuple[text.Vocabulary, ...]

    def batches(self, split: str | Examples, **options: Any) -> Batches:
        """The batches of a split, or of other examples whose inputs are as a split's; of each
        one the rows of this process.
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
        """Texts [N, 1], or pairs [N, 2], without labels, as examples of these networks; and how
        many of them were cut.
        """
        inputs, cut = text.read(self.vocabularies, texts, self.settings.dataset.max_length)
        return Examples(inputs, np.zeros(len(texts), np.int32)), int(cut.sum())


@dataclasses.dataclass(frozen=True)
class _Model:
    """What the configuration says of a network.

    Attributes:
      field: of the configuration, which messages name.
      spec: NAME:ARGUMENT.
      fine_tuned: whether it is in a Hugging Face folder, ready to teach.
    """

    field: str
    spec: str
    fine_tuned: bool = False

    @property
    def folder(self) -> huggingface.Folder | None:
        """The Hugging Face folder that it comes from."""
        return models.folder(self.spec)


def make_plan(run_config: Any, *, teachers: bool = True) -> Plan:
    """Checks a configuration as far as that goes without compiling or writing.

    Args:
      run_config: an ml_collections ConfigDict or a dict, with the fields of configs/default.py.
      teachers: whether the teachers are plan too.

    Raises:
      InputError: something does not fit; the message names the field.
    """
    settings = config.parse(run_config)
    method = methods.build(settings)
    parallel.check_batch_size(settings.batch_size, settings.grad_accumulation_steps)
    dataset = data.load(settings.dataset)
    described = {STUDENT: _Model("config.student.model", settings.student.model)}
    for name in _teachers_behind(settings, method.teachers) if teachers else ():
        described[name] = _teacher_model(name, settings, dataset)
    vocabularies: dict[str, text.Vocabulary] = {}
    if dataset.texts:
        vocabularies = _vocabularies(settings.dataset, dataset, described)
        dataset = _tokenised(settings.dataset, dataset, vocabularies)
    networks = {
        name: _network(model, vocabularies.get(name, dataset.normalise), settings, dataset)
        for name, model in described.items()
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
    """What makes two runs the same: the configuration, but for the places of files, and the
    labels of the task.

    Teachers that the method does not read are left out; those found at a path, and networks
    that start from a folder, stand there by the digest of their weights.
    """
    settings = plan.settings
    found = settings.model_dump()
    del found["dataset"]["data_dir"]
    found |= {"teacher": None, "takd": None}
    found[STUDENT]["model"] = _model_resume_key(settings.student.model)
    for name in plan.method.teachers:
        if name in plan.teachers:
            found |= teacher_resume_key(settings, name)
    return {**found, "views": settings.teacher.views, "labels": list(plan.dataset.task.labels)}


def teacher_resume_key(settings: RunConfig, name: str) -> dict[str, Any]:
    """What makes two teachers the same, by the sections of the configuration."""
    section = methods.teacher_config(settings, name)
    field = methods.TEACHER_FIELDS[name]
    path = readable_path(f"config.{field}.path", section.path)
    if section.path and huggingface.is_folder(path):
        return {field: {"digest": huggingface.Folder(path).digest()}}
    if section.path:
        return {field: {"digest": read_teacher_results(f"config.{field}.path", path)["digest"]}}
    read = methods.TEACHERS[name](settings).teachers
    return {
        field: {
            **section.model_dump(exclude={"path", "views", "cache_dir"}),
            "model": _model_resume_key(section.model),
        },
        **{k: v for other in read for k, v in teacher_resume_key(settings, other).items()},
    }


def creates_teacher(settings: RunConfig, name: str) -> bool:
    """Whether a run makes a teacher's folder: it trains the teacher, or takes it over from a
    Hugging Face folder. If not, the folder is there, under the path of the configuration.
    """
    path = methods.teacher_config(settings, name).path
    field = f"config.{methods.TEACHER_FIELDS[name]}.path"
    return not path or huggingface.is_folder(readable_path(field, path))


def read_teacher_results(field: str, folder: Path) -> dict[str, Any]:
    """The results of a teacher that was trained before."""
    results = processes.on_primary(lambda: records.read(folder / records.RESULTS))
    if results is None or not {"model", "labels", "digest"} <= results.keys():
        raise InputError(
            f"{field}: expected the folder of a finished teacher, got {folder}; give such a"
            " folder of a finished run, one of Hugging Face, or leave the path empty to train one"
        )
    return results


def shapes(network: Network, dataset: Dataset) -> Any:
    """Shapes and types of a network's variables."""
    return jax.eval_shape(network.init, jax.random.key(0), dataset.example)


def _teachers_behind(settings: RunConfig, names: Iterable[str]) -> Iterator[str]:
    """The names of teachers, and of those that they are trained by where they have no path."""
    for name in names:
        yield name
        if not methods.teacher_config(settings, name).path:
            yield from _teachers_behind(settings, methods.TEACHERS[name](settings).teachers)


def _teacher_model(name: str, settings: RunConfig, dataset: Dataset) -> _Model:
    """What the configuration says of a teacher; checked if it is trained."""
    section = methods.teacher_config(settings, name)
    field = f"config.{methods.TEACHER_FIELDS[name]}"
    if not section.path:
        return _Model(f"{field}.model", section.model)
    if creates_teacher(settings, name):
        return _Model(f"{field}.path", f"huggingface:{section.path}", fine_tuned=True)
    results = read_teacher_results(f"{field}.path", readable_path(f"{field}.path", section.path))
    there, here = results["labels"], list(dataset.task.labels)
    if there != here:
        other = len(there) != len(here)
        raise InputError(
            f"{field}.path: expected a teacher of the student's data set"
            f" {settings.dataset.name}, with {_show_labels(here, other)}, got one with"
            f" {_show_labels(there, other)}; give a teacher of the same task"
        )
    return _Model(f"{field}.path", results["model"])


def _network(
    model: _Model, preprocess: Preprocess | None, settings: RunConfig, dataset: Dataset
) -> Network:
    """The network that a field names, checked to take the data set's inputs."""
    try:
        module = models.build(model.spec, dataset.task.outputs, settings.dtype)
        if model.folder is not None and not dataset.texts:
            raise InputError(
                f"expected a network for images, as the data set {settings.dataset.name} has, got"
                f" {model.spec}, which reads texts"
            )
        assert preprocess is not None, "expected a vocabulary or a normalisation"
        network = Network(module, preprocess)
        found = shapes(network, dataset)
        if model.folder is not None:
            weights = huggingface.Weights(model.folder, dataset.task, model.fine_tuned)
            weights.match(found)
            network = dataclasses.replace(network, pretrained=weights)
    except InputError as error:
        raise InputError(f"{model.field}: {error}") from None
    return network


def _show_labels(labels: Sequence[str], only_count: bool) -> str:
    if not labels:
        return "a number to predict"
    return f"{len(labels)} classes" if only_count else f"the labels {', '.join(labels)}"


def _vocabularies(
    settings: DatasetConfig, dataset: Dataset, described: Mapping[str, _Model]
) -> dict[str, text.Vocabulary]:
    """The vocabulary of each network, checked to read the data set's texts."""
    if settings.crop_padding or settings.flip:
        raise InputError(
            f"config.dataset: expected crop_padding 0 and flip False for the texts of"
            f" {settings.name}, got {settings.crop_padding} and {settings.flip}"
        )
    found = {}
    for name, model in described.items():
        try:
            folder = model.folder
            if folder is None:
                raise InputError(
                    f"expected huggingface:DIR, a network for texts, as the data set"
                    f" {settings.name} has, got {model.spec!r}"
                )
            encoder, tokenizer = folder.encoder_config(), folder.load_tokenizer()
            if tokenizer.get_vocab_size() > encoder.vocab_size:
                raise InputError(
                    f"{folder.path}: expected a tokenizer of at most {encoder.vocab_size} tokens,"
                    f" the vocab_size of its config.json, got one of {tokenizer.get_vocab_size()};"
                    " take both from one model"
                )
        except InputError as error:
            raise InputError(f"{model.field}: {error}") from None
        marks = tokenizer.num_special_tokens_to_add(is_pair=dataset.example.shape[1] > 1)
        if not marks < settings.max_length <= encoder.max_length:
            raise InputError(
                f"config.dataset.max_length: expected {marks + 1} to {encoder.max_length}, the"
                f" marks between texts and the positions of {model.field} {model.spec}, got"
                f" {settings.max_length}"
            )
        found[name] = text.Vocabulary.of(tokenizer)
    return found


def _tokenised(
    settings: DatasetConfig, dataset: Dataset, vocabularies: Mapping[str, text.Vocabulary]
) -> Dataset:
    """A data set of texts as the tokens of each vocabulary."""
    buckets = text.bucket_lengths(settings.max_length)
    splits = text.TokenisedSplits(
        dataset.splits,
        dict.fromkeys(vocabularies.values()),
        functools.partial(_read_split, settings),
    )
    example, _ = text.read(vocabularies.values(), dataset.example, settings.max_length)
    return dataclasses.replace(
        dataset,
        splits=splits,
        example=example,
        buckets=buckets if settings.bucketing else buckets[-1:],
    )


@functools.lru_cache(maxsize=12)  # The splits of two data sets, in two vocabularies.
def _read_split(
    settings: DatasetConfig, split: str, vocabulary: text.Vocabulary
) -> tuple[Tokens, np.ndarray]:
    """The tokens of a split, and which of its texts were cut."""
    texts = data.load(settings).splits[split].inputs
    return text.tokenise(vocabulary.tokenizer, texts, settings.max_length)


def _model_resume_key(spec: str) -> str:
    """A model's NAME:ARGUMENT, with the digest of a folder in its place."""
    folder = models.folder(spec)
    return spec if folder is None else f"huggingface:{folder.digest()}"
