"""Helpers for tests that train whole runs in this process."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import InputError


def refuse_constant(name):
    raise ValueError(f"expected valid JSON, got {name}")


def read_metrics(workdir):
    """The records in metrics.jsonl; NaN and Infinity are not valid JSON and raise ValueError."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse_constant) for line in lines]


def without_times(record):
    """A record or a stage's summary without its times and rates."""
    return {name: value for name, value in record.items() if "second" not in name}


def results_without_times(results):
    """The content of results.json without times and rates."""
    cache = {name: without_times(x) for name, x in results.get("teacher_cache", {}).items()}
    stages = [without_times(stage) for stage in results["stages"]]
    return {**results, "stages": stages, "teacher_cache": cache}


def checkpoint_folder(stage_folder):
    """The folder of a stage's newest checkpoint."""
    numbers = [int(path.name) for path in stage_folder.iterdir() if path.name.isdigit()]
    return stage_folder / str(max(numbers))


def read_checkpoint(stage_folder, number=None):
    """All arrays of a stage's checkpoint, read by Orbax without the package.

    Without a number, it is the newest checkpoint.
    """
    folder = checkpoint_folder(stage_folder) if number is None else stage_folder / str(number)
    with ocp.StandardCheckpointer() as checkpointer:
        items = {item: checkpointer.restore(folder / item) for item in ("state", "best")}
    key = items["state"].pop("key")
    return {**items, "key": jax.random.key_data(key)}


def read_progress(stage_folder):
    """The progress in the newest checkpoint of a stage."""
    with Checkpoints(stage_folder, read_only=True) as checkpoints:
        _, progress = checkpoints.restore({})
    return progress


def assert_trees_equal(*trees):
    """Checks that trees of arrays are equal bit for bit."""
    assert jax.tree.leaves(trees[0])
    for other in trees[1:]:
        jax.tree.map(np.testing.assert_array_equal, trees[0], other)


def assert_same_run(one, other):
    """Checks that two runs have the same records, results and final checkpoints, bit for bit."""
    assert [*map(without_times, read_metrics(one))] == [*map(without_times, read_metrics(other))]
    results = [results_without_times(records.read(path / "results.json")) for path in (one, other)]
    for result in results:
        for stage in result["stages"]:
            del stage["traces"]  # A resumed run has other programs.
    assert results[0] == results[1]
    for stage in results[0]["stages"]:
        folder = f"student/{stage['name']}"
        assert_trees_equal(read_checkpoint(one / folder), read_checkpoint(other / folder))


def assert_refused(config, workdir, message):
    """Checks that a run raises InputError with a message of one line."""
    with pytest.raises(InputError, match=message) as error:
        runs.run(config, workdir)
    assert "\n" not in str(error.value)


def snapshot(folder):
    """All paths in a folder, and the times when the files were last changed."""
    return {path: path.stat().st_mtime_ns if path.is_file() else 0 for path in folder.rglob("*")}
