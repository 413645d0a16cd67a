"""The nine tasks of GLUE (Wang et al., 2019, https://arxiv.org/abs/1804.07461).

Read, whichever a folder holds, from what tensorflow-datasets prepared as array_record
(without TensorFlow), or from GLUE's own TSV files. The labels of GLUE's test sets are not
public: its dev sets are the test splits here, and validation is held out of the training set.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from akd_jax.data import prepared, tsv
from akd_jax.data.dataset import Examples, Source
from akd_jax.errors import InputError
from akd_jax.files import Path
from akd_jax.types import Task

DEFAULT_DIR = pathlib.Path.home() / "tensorflow_datasets"


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """A task and its files.

    Attributes:
      folder: the name of its folder among GLUE's, and of its submission's file.
      sentences: the columns of its texts; numbers where the file has no header.
      label: the column of the labels.
      labels: their names in the files to those of the classes; none for a regression.
      metrics: those that GLUE reports; the first one is the paper's.
      features: the texts' names in tensorflow-datasets, where they are others.
      dev: names of the dev sets' files, to the names of their splits.
      test_sentences: the columns of the texts in test.tsv, where they are others.
      broken_rows: whether GLUE's own files have rows that lack columns, to be passed over.
    """

    folder: str
    sentences: tuple[str, ...] | tuple[int, ...]
    label: str | int = "label"
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metrics: tuple[str, ...] = ("accuracy",)
    features: tuple[str, ...] = ()
    dev: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"dev": "test"})
    test_sentences: tuple[str, ...] = ()
    broken_rows: bool = False

    @property
    def task(self) -> Task:
        """What is to be predicted."""
        return Task(tuple(self.labels.values()), self.metrics, tuple(self.labels))


def _itself(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_PAIR = ("sentence1", "sentence2")
_NOT_ENTAILMENT = "not_entailment"

TASKS: Mapping[str, GlueTask] = {
    "cola": GlueTask(
        "CoLA",
        (3,),
        1,
        {"0": "unacceptable", "1": "acceptable"},
        ("matthews",),
        features=("sentence",),
        test_sentences=("sentence",),
    ),
    "sst2": GlueTask("SST-2", ("sentence",), labels={"0": "negative", "1": "positive"}),
    "mrpc": GlueTask(
        "MRPC",
        ("#1 String", "#2 String"),
        "Quality",
        {"0": "not_equivalent", "1": "equivalent"},
        ("f1", "accuracy"),
        features=_PAIR,
    ),
    "stsb": GlueTask("STS-B", _PAIR, "score", metrics=("pearson", "spearman")),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        {"0": "not_duplicate", "1": "duplicate"},
        ("accuracy", "f1"),
        broken_rows=True,
    ),
    "mnli": GlueTask(
        "MNLI",
        _PAIR,
        "gold_label",
        _itself("entailment", "neutral", "contradiction"),
        features=("premise", "hypothesis"),
        dev={"dev_matched": "test", "dev_mismatched": "test_mismatched"},
    ),
    "qnli": GlueTask(
        "QNLI", ("question", "sentence"), labels=_itself("entailment", _NOT_ENTAILMENT)
    ),
    "rte": GlueTask("RTE", _PAIR, labels=_itself("entailment", _NOT_ENTAILMENT)),
    "wnli": GlueTask("WNLI", _PAIR, labels={"0": _NOT_ENTAILMENT, "1": "entailment"}),
}


def load(name: str, data_dir: Path | None) -> Source:
    """The texts and labels of a task.

    Args:
      name: in TASKS.
      data_dir: holds glue/TASK/ of tensorflow-datasets, the task's folder (such as RTE), or
        its TSV files themselves; None for tensorflow-datasets' own default.

    Raises:
      InputError: the folder holds none of them, or damaged ones.
    """
    data_dir = data_dir or DEFAULT_DIR
    task = TASKS[name]
    if (data_dir / "glue" / name).is_dir():
        return _load_tfds(name, task, data_dir)
    folder = data_dir / task.folder if (data_dir / task.folder).is_dir() else data_dir
    if not (folder / "train.tsv").exists():
        raise InputError(
            f"config.dataset.data_dir: expected glue/{name}/ of tensorflow-datasets,"
            f" {task.folder}/train.tsv or train.tsv in {data_dir}, got none of them; give a folder"
            " that has one"
        )
    columns = (*task.sentences, task.label)
    splits = {
        split: tsv.examples(
            tsv.read(folder / f"{file}.tsv", columns, skip_broken=task.broken_rows), task.labels
        )
        for file, split in {"train": "train", **task.dev}.items()
    }
    return _source(task, splits)


LOADERS = {name: functools.partial(load, name) for name in TASKS}


def _source(task: GlueTask, splits: Mapping[str, Examples]) -> Source:
    others = {k: v for k, v in splits.items() if k not in ("train", "test")}
    return Source(
        splits["train"],
        splits["test"],
        task.task,
        normalise=None,
        others=others,
        columns=task.test_sentences or tuple(map(str, task.sentences)),
    )


def _load_tfds(name: str, task: GlueTask, data_dir: Path) -> Source:
    # They take seconds, and few need them; GLUE is not registered before it is imported.
    import tensorflow_datasets as tfds
    import tensorflow_datasets.text.glue

    remedy = "prepare it with tensorflow-datasets where TensorFlow is installed, or give GLUE's TSV"
    builder = prepared.find(f"glue/{name}", data_dir, f"{remedy} files")
    # As it was prepared: the names and the order of the classes are those of the folder.
    builder = tfds.builder_from_directory(builder.data_dir)
    splits = {"train": "train"}
    splits |= {file.replace("dev", "validation"): split for file, split in task.dev.items()}
    classes = None if task.task.regression else builder.info.features["label"].names
    found = {}
    for file, split in splits.items():
        records = prepared.records(builder, file, "idx")  # They count through the TSV file.
        features = task.features or tuple(map(str, task.sentences))
        texts = [[_text(record[feature]) for feature in features] for record in records]
        if classes is None:
            labels = np.array([record["label"] for record in records], np.float32)
        else:  # By name: the order of the indices is the data set's own.
            indices = {label: index for index, label in enumerate(task.task.labels)}
            labels = np.array([indices[classes[record["label"]]] for record in records], np.int32)
        found[split] = Examples(np.array(texts, object), labels)
    return _source(task, found)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8")
