"""Train two checkouts on this machine and compare the results bit for bit.

    python -m tests.golden.two_checkouts --old=DIR --new=DIR [--methods=kd,annealing_kd]

Each checkout trains with its own code, in separate processes, on the digits of
configs/digits.py and on the small texts of the tests. The script compares the parameters of the
student and of its teachers, every record of metrics.jsonl and the scores of results.json, except
for times. Both checkouts run with the interpreter that runs this script. It exits with 1 if
anything differs.

A field that only one of the checkouts records is reported, but does not count as a difference. A
field named by --ignore does not count either.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags, logging

from tests.support.launching import GUARD_SECONDS
from tests.support.texts import write_folders

_OLD = flags.DEFINE_string("old", None, "The checkout to compare with.", required=True)
_NEW = flags.DEFINE_string("new", None, "The checkout to check.", required=True)
_METHODS = flags.DEFINE_list(
    "methods", ["scratch", "kd", "takd", "annealing_kd", "continuation_kd"], "Methods to train."
)
_IGNORE = flags.DEFINE_list("ignore", [], "Fields of records that are expected to differ.")

_DIGITS = {
    "student.epochs": 12,
    "annealing_kd.stage_1.epochs": 6,
    "annealing_kd.max_temperature": 3,
    "continuation_kd.max_temperature": 6,
    "continuation_kd.psi_epochs": 8,
    "continuation_kd.psi_until": 8,
    "teacher.epochs": 4,
    "takd.assistant.epochs": 4,
    "checkpoint_every": 4,
}
_TIMES = ("second", "environment", "traces")  # Parts of the names of fields that may differ.


def _runs(texts: Path) -> Iterator[tuple[str, list[str]]]:
    """The name and the flags of every run."""
    for method in _METHODS.value:
        yield f"digits-{method}", _flags(f"configs/digits.py:{method}", _DIGITS)
        fields = {
            "dataset.name": "movie_reviews",
            "dataset.data_dir": texts,
            "dataset.validation_size": 0,
            "dataset.max_length": 24,
            "teacher.path": texts / "bert",
            "student.model": f"huggingface:{texts / 'bert'},every=2",
            "student.epochs": 4,
            "takd.assistant.model": f"huggingface:{texts / 'bert'}",
            "takd.assistant.epochs": 1,
            "annealing_kd.stage_1.epochs": 2,
            "annealing_kd.max_temperature": 2,
            "continuation_kd.max_temperature": 2,
            "continuation_kd.psi_until": 2,
        }
        yield f"texts-{method}", _flags(f"configs/glue.py:sst2,{method}", fields)


def _flags(config: str, fields: dict[str, Any]) -> list[str]:
    return [f"--config={config}", *(f"--config.{name}={value}" for name, value in fields.items())]


def _train(checkout: Path, run_flags: list[str], workdir: Path) -> None:
    command = [sys.executable, "-m", "experiments.train", *run_flags, f"--workdir={workdir}"]
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=GUARD_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"{checkout}: training failed: {done.stderr.splitlines()[-1]}")


def _parameters(workdir: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The best variables of the latest checkpoint of every stage in a workdir."""
    for folder in sorted(workdir.rglob("best")):
        step = folder.parent
        if step.name != str(max(int(p.name) for p in step.parent.iterdir() if p.name.isdigit())):
            continue
        tree = ocp.StandardCheckpointer().restore(folder.absolute())
        for path, leaf in jax.tree.leaves_with_path(tree):
            name = f"{step.parent.relative_to(workdir)}{jax.tree_util.keystr(path)}"
            yield name, np.asarray(leaf)


def _records(workdir: Path) -> Iterator[tuple[str, Any]]:
    """Every number and text of metrics.jsonl and of results.json."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    yield from _fields("metrics", [json.loads(line) for line in lines])
    yield from _fields("results", json.loads((workdir / "results.json").read_text()))


def _fields(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            if not any(word in key for word in _TIMES) and key not in _IGNORE.value:
                yield from _fields(f"{name}.{key}", part)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _fields(f"{name}[{number}]", part)
    else:
        yield name, value


def _compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names that differ, and names that only one side has."""
    differing = [name for name in old if name in new and not np.array_equal(old[name], new[name])]
    return differing, sorted(old.keys() ^ new.keys())


def _distance(names: list[str], old: dict[str, Any], new: dict[str, Any]) -> float:
    """The largest difference, relative to the largest number of each value; inf for texts."""
    try:
        pairs = [(np.asarray(old[name], float), np.asarray(new[name], float)) for name in names]
        return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    except (TypeError, ValueError):
        return float("inf")


def main(argv: list[str]) -> None:
    """Trains, compares and prints a line per run."""
    del argv
    logging.set_verbosity(logging.ERROR)  # Orbax logs every checkpoint that it reads.
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "texts").mkdir()
        write_folders(root / "texts")
        for name, run_flags in _runs(root / "texts"):
            sides = []
            for side, checkout in (("old", _OLD.value), ("new", _NEW.value)):
                workdir = root / name / side
                _train(Path(checkout), run_flags, workdir)
                parameters = dict(_parameters(workdir))
                sides.append((parameters, dict(_records(workdir))))
            arrays, records = (_compare(*pair) for pair in zip(*sides, strict=True))
            print(
                f"{name}: {len(sides[0][0])} arrays, {len(arrays[0])} differ;"
                f" {len(sides[0][1])} recorded values, {len(records[0])} differ",
                flush=True,
            )
            for (differing, one_sided), values in zip(
                (arrays, records), zip(*sides, strict=True), strict=True
            ):
                failed = failed or bool(differing)
                if differing:
                    print(f"  differ: {', '.join(differing[:3])}{' ...' if differing[3:] else ''}")
                    print(f"  largest relative difference: {_distance(differing, *values):.0e}")
                if one_sided:
                    print(f"  recorded by one side only: {', '.join(one_sided[:5])}")
            failed = failed or sides[0][0].keys() != sides[1][0].keys()
    print("different" if failed else "identical, bit for bit")
    sys.exit(failed)


if __name__ == "__main__":
    app.run(main)
