"""The nine tasks of GLUE (Wang et al., 2019, https://arxiv.org/abs/1804.07461).

The reader accepts a folder that tensorflow-datasets prepared as array_record, which it reads
without TensorFlow, and the TSV files that GLUE publishes. The labels of GLUE's test sets are not
public. The dev sets therefore serve as the test splits, and the validation split is held out of
the training set.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from akd_jax.data.dataset import Examples, Source
from akd_jax.data.readers import prepared, tsv
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.types import Task


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """A task and the layout of its files.

    Attributes:
      folder: name of the task's folder and, with .tsv, of its submission file.
      sentences: columns of the texts; indices if the files have no header.
      label: column of the labels.
      labels: maps a label in the files to the name of its class; empty for a regression.
      metrics: the metrics that GLUE reports; the Annealing-KD paper reports the first one.
      features: names of the texts in tensorflow-datasets, if they differ from `sentences`.
      dev: maps the file of a dev set to the name of its split.
      test_sentences: columns of the texts in test.tsv, if they differ from `sentences`.
      broken_rows: whether the published files have rows with missing columns, which are skipped.
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
        """The labels and metrics of the task."""
        return Task(tuple(self.labels.values()), self.metrics, tuple(self.labels))


def _identity(*names: str) -> dict[str, str]:
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
        _identity("entailment", "neutral", "contradiction"),
        features=("premise", "hypothesis"),
        dev={"dev_matched": "test", "dev_mismatched": "test_mismatched"},
    ),
    "qnli": GlueTask(
        "QNLI", ("question", "sentence"), labels=_identity("entailment", _NOT_ENTAILMENT)
    ),
    "rte": GlueTask("RTE", _PAIR, labels=_identity("entailment", _NOT_ENTAILMENT)),
    "wnli": GlueTask("WNLI", _PAIR, labels={"0": _NOT_ENTAILMENT, "1": "entailment"}),
}


def load(name: str, data_dir: Path | None) -> Source:
    """Reads the texts and labels of a task.

    Args:
      name: a name in TASKS.
      data_dir: folder with glue/NAME/ of tensorflow-datasets, with the task's folder (such as
        RTE), or with its TSV files; None for ~/tensorflow_datasets.

    Raises:
      InputError: the folder contains none of them, or the files are damaged.
    """
    data_dir = data_dir or prepared.default_dir()
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
    tfds = require("tensorflow_datasets", "images")
    require("tensorflow_datasets.text.glue", "images")  # The import registers GLUE.
    remedy = "prepare it with tensorflow-datasets where TensorFlow is installed, or give GLUE's TSV"
    builder = prepared.find(f"glue/{name}", data_dir, f"{remedy} files")
    # Use the class names that were stored when the folder was prepared, not the current ones.
    builder = tfds.builder_from_directory(builder.data_dir)
    splits = {"train": "train"}
    splits |= {file.replace("dev", "validation"): split for file, split in task.dev.items()}
    classes = None if task.task.regression else builder.info.features["label"].names
    examples = {}
    for file, split in splits.items():
        records = prepared.records(builder, file, "idx")  # The order of the TSV file.
        features = task.features or tuple(map(str, task.sentences))
        texts = [[_text(record[feature]) for feature in features] for record in records]
        if classes is None:
            labels = np.array([record["label"] for record in records], np.float32)
        else:  # Match by name, because the class indices of the folder may differ.
            indices = {label: index for index, label in enumerate(task.task.labels)}
            labels = np.array([indices[classes[record["label"]]] for record in records], np.int32)
        examples[split] = Examples(np.array(texts, object), labels)
    return _source(task, examples)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8")
