"""The store of a teacher's outputs."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from akd_jax import models
from akd_jax.host.errors import InputError
from akd_jax.teachers import stored
from akd_jax.teachers.selection import Selection
from akd_jax.teachers.stored import Fingerprint, load_or_build
from akd_jax.types import Outputs

FINGERPRINT = Fingerprint(
    teacher="t",
    data="d",
    augmentation="crop_padding 4, flip True",
    seed=0,
    precision="float32",
    selection="logits",
)


class Teacher:
    """Predicts the number of the view, and records which views it computed."""

    def __init__(self):
        self.computed = []

    def __call__(self, view):
        self.computed.append(view)
        return Outputs(np.full((5, 3), view, np.float32))


def build(folder, views, fingerprint=FINGERPRINT):
    """Loads or computes some views; returns the numbers of the views that were computed."""
    teacher = Teacher()
    loaded = load_or_build(folder, "teacher", fingerprint, views, teacher)
    for view, outputs in enumerate(loaded.views):
        np.testing.assert_array_equal(outputs.logits, np.full((5, 3), view))
        assert outputs.logits.dtype == np.float32
    assert len(loaded.views) == views
    return teacher.computed


def files(folder):
    (store,) = (path for path in folder.iterdir() if path.is_dir())
    return sorted(store.glob("*.npy"))


def test_teacher_runs_once_on_each_view(tmp_path, caplog):
    assert build(tmp_path, 3) == [0, 1, 2]
    assert build(tmp_path, 3) == []
    assert caplog.messages == []


def test_more_views_are_added_and_fewer_views_are_reused(tmp_path, caplog):
    build(tmp_path, 2)
    assert build(tmp_path, 4) == [2, 3]
    assert build(tmp_path, 1) == []
    assert caplog.messages == []


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damaged_view_is_computed_again(tmp_path, caplog, damage):
    build(tmp_path, 3)
    path = files(tmp_path)[1]
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-1])
    elif damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    assert build(tmp_path, 3) == [1]
    assert (
        "view_0001.logits.npy is damaged or missing; running the teacher again"
        in caplog.messages[0]
    )
    assert len(caplog.messages) == 1
    assert build(tmp_path, 3) == []


@pytest.mark.parametrize("array", ["logits", "feature.hidden", "top_k.log_sum_exp"])
def test_damage_of_one_array_computes_its_view_again(tmp_path, caplog, array):
    computed = []

    def predict(view):
        computed.append(view)
        logits = np.arange(12, dtype=np.float32).reshape(4, 3) + view
        return Selection(("hidden",), top_k=2)(Outputs(logits, {"hidden": logits[:, :1]}))

    def load():
        return load_or_build(tmp_path, "teacher", FINGERPRINT, 2, predict).views

    first = jax.tree.map(np.array, load())  # Not mapped from the files.
    (path,) = tmp_path.glob(f"*/view_0001.{array}.npy")
    path.write_bytes(path.read_bytes()[:-1])
    again = load()
    assert computed == [0, 1, 1]
    (message,) = caplog.messages
    assert f"view_0001.{array}.npy is damaged or missing" in message
    for one, other in zip(first, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"views": {"0": 1}}'])
def test_damaged_index_is_rebuilt(tmp_path, caplog, content):
    build(tmp_path, 2)
    (index,) = tmp_path.glob("*/index.json")
    index.write_text(content)
    assert build(tmp_path, 2) == [0, 1]
    assert "index.json is damaged" in caplog.messages[0]
    assert build(tmp_path, 2) == []


def test_damaged_index_of_another_cache_is_ignored(tmp_path):
    build(tmp_path, 1)
    (index,) = tmp_path.glob("*/index.json")
    index.write_text("half")
    assert build(tmp_path, 1, dataclasses.replace(FINGERPRINT, seed=1)) == [0]


def test_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder for a teacher's outputs"):
        build(tmp_path / "file", 1)


def test_interrupted_build_is_resumed(tmp_path):
    def predict(view):
        if view == 1:
            raise KeyboardInterrupt
        return Outputs(np.full((5, 3), view, np.float32))

    with pytest.raises(KeyboardInterrupt):
        load_or_build(tmp_path, "teacher", FINGERPRINT, 3, predict)
    assert build(tmp_path, 3) == [1, 2]


@pytest.mark.parametrize("part", [field.name for field in dataclasses.fields(Fingerprint)])
def test_cache_with_another_fingerprint_is_not_used_and_the_difference_is_logged(
    tmp_path, caplog, part
):
    build(tmp_path, 2)
    value = 1 if part == "seed" else "other"
    changed = dataclasses.replace(FINGERPRINT, **{part: value})
    assert build(tmp_path, 2, changed) == [0, 1]
    assert len(caplog.messages) == 1
    assert (
        f"is not used, because it has a different {part}; running the teacher again"
        in caplog.messages[0]
    )
    assert build(tmp_path, 2) == []  # The first cache is unchanged.


def test_seconds_of_all_passes_are_stored(tmp_path):
    first = load_or_build(tmp_path, "teacher", FINGERPRINT, 1, Teacher())
    second = load_or_build(tmp_path, "teacher", FINGERPRINT, 2, Teacher())
    again = load_or_build(tmp_path, "teacher", FINGERPRINT, 2, Teacher())
    fewer = load_or_build(tmp_path, "teacher", FINGERPRINT, 1, Teacher())
    assert 0 <= first.seconds <= second.seconds == again.seconds
    assert fewer.seconds == first.seconds  # Only the used views count.
    (index,) = tmp_path.glob("*/index.json")
    assert json.loads(index.read_text())["fingerprint"] == dataclasses.asdict(FINGERPRINT)


def test_digest_depends_on_values_shapes_types_names_and_architecture():
    variables = {"params": {"a": np.zeros((2, 3), np.float32)}}
    same = {"params": {"a": np.zeros((2, 3), np.float32)}}
    others = [
        {"params": {"a": np.ones((2, 3), np.float32)}},
        {"params": {"a": np.zeros((3, 2), np.float32)}},
        {"params": {"a": np.zeros((2, 3), np.int32)}},
        {"params": {"b": np.zeros((2, 3), np.float32)}},
    ]
    eight, fourteen = (models.build(f"resnet:{depth}", 10) for depth in (8, 14))
    reference = stored.teacher_digest(eight, variables)
    assert stored.teacher_digest(eight, same) == reference
    digests = {stored.teacher_digest(eight, other) for other in others}
    digests.add(stored.teacher_digest(fourteen, variables))
    assert len(digests | {reference}) == 6
