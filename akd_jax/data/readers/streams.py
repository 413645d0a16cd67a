"""Streams of tasks: a folder with a subfolder for each task, with train.tsv, dev.tsv and test.tsv.

The files have the columns context, question and answer. A network reads context and question, and
generates the answer.
"""

import hashlib
import json
from collections.abc import Mapping

from pydantic import Field

from akd_jax.data import sequences
from akd_jax.data.dataset import Examples, Source, concatenate, test_split
from akd_jax.data.readers import domains, tsv
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.host.settings import Section
from akd_jax.types import GROUP_METRICS, Task

COLUMNS = ("context", "question", "answer")
TOKENIZER, METRIC = "tokenizer.json", "metric.json"
_DEFAULT_METRIC = "exact_match"
SCORE = "score"


class StreamOptions(Section):
    """The tasks of a stream."""

    tasks: str = Field(
        default="",
        description="Tasks of a stream in the order of learning, such as de,fr,es; empty for all"
        " subfolders by name.",
    )


def load(data_dir: Path | None, options: StreamOptions | None = None) -> Source:
    """Reads the tasks of a stream.

    The task is the group of an example. The test split has the examples of all tasks, and each task
    has a test split, test_TASK. The file metric.json of a task names its metric, as in
    {"metric": "phoneme_accuracy"}; without it, the metric is 'exact_match'. The folder also has
    tokenizer.json, which `experiments.prepare` writes.

    Args:
      data_dir: the folder.
      options: the tasks.

    Raises:
      InputError: a task is unknown or named twice, or has no training examples; a file is missing,
        damaged or malformed; a question or an answer is empty; or the tokenizer has no token for a
        task.
    """
    if data_dir is None:
        raise InputError(
            "config.dataset.data_dir: expected the folder of the stream, got none; set it"
        )
    names = task_names(data_dir, options or StreamOptions())
    tables = {name: domains.read_domain(data_dir, COLUMNS, name) for name in names}
    examples = {
        name: {split: _examples(table, name) for split, table in of_task.items()}
        for name, of_task in tables.items()
    }
    tokenizers = (data_dir / TOKENIZER,) * 2
    target = sequences.target_vocabulary(tokenizers)
    missing = [name for name in names if name not in dict(target.tasks)]
    if missing:
        raise InputError(
            f"{data_dir / TOKENIZER}: expected the token {sequences.task_token(missing[0])}, got"
            " none; delete the file and run experiments.prepare again"
        )
    metrics = tuple((name, _metric(data_dir / name / METRIC)) for name in names)
    train, dev, test = (
        concatenate([of_task[split] for of_task in examples.values()]) for split in domains.SPLITS
    )
    return Source(
        train=train,
        test=test,
        validation=dev,
        task=Task(
            (),
            (SCORE, "exact_match"),
            target=target,
            group_metrics=metrics,
            data_digest=_digest(tables, metrics),
        ),
        normalise=None,
        others={test_split(name): of_task["test"] for name, of_task in examples.items()},
        columns=COLUMNS,
        tokenizers=tokenizers,
    )


def task_names(data_dir: Path, options: StreamOptions) -> list[str]:
    """Returns the names of the tasks, in their order.

    Raises:
      InputError: there is no task, or a name is unknown, empty or given twice.
    """
    known = sorted(path.parent.name for path in data_dir.glob("*/train.tsv"))
    if not known:
        raise InputError(
            f"{data_dir}: expected a subfolder for each task, with train.tsv, dev.tsv and test.tsv,"
            " got none; correct config.dataset.data_dir"
        )
    names = [name.strip() for name in options.tasks.split(",")] if options.tasks else known
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(
                f"config.dataset.tasks: expected each task once, got {name} twice; remove one"
            )
        if name not in known:
            raise InputError(
                f"config.dataset.tasks: expected tasks among {', '.join(known)}, got {name!r};"
                f" correct the name, or add {name}/train.tsv to {data_dir}"
            )
    return names


def _digest(
    tables: Mapping[str, Mapping[str, tsv.Table]], metrics: tuple[tuple[str, str], ...]
) -> str:
    """Returns a digest of all rows and of the metrics."""
    rows = {
        name: [list(table.rows.values()) for table in of_task.values()]
        for name, of_task in tables.items()
    }
    return hashlib.sha256(json.dumps([rows, metrics]).encode()).hexdigest()[:16]


def _examples(table: tsv.Table, name: str) -> Examples:
    for number, row in table.rows.items():
        for column, cell in zip(COLUMNS[1:], row[1:], strict=True):
            if not cell.strip():
                raise InputError(
                    f"{table.path}, line {number}: expected text as the {column}, got an empty"
                    " cell; remove the row"
                )
    return domains.with_group(sequences.unlabelled(tsv.texts(table)), name)


def _metric(path: Path) -> str:
    """Returns the metric of a task from its file."""
    if not path.exists():
        return _DEFAULT_METRIC
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["metric"]
    except (ValueError, KeyError, TypeError):
        name = None
    if name not in GROUP_METRICS:
        raise InputError(
            f'{path}: expected {{"metric": NAME}} with a name among {", ".join(GROUP_METRICS)}, got'
            f" {name!r}; correct it"
        )
    return name
