import dataclasses
import json

import numpy as np
import pytest
from absl import logging

from akd_jax import models, teacher_cache
from akd_jax.errors import InputError
from akd_jax.teacher_cache import Fingerprint, load_or_build

FINGERPRINT = Fingerprint(
    teacher="t", data="d", augmentation="crop_padding 4, flip True", seed=0, precision="float32"
)


class Teacher:
    """Predicts numbers that name their view, and counts how often it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, view):
        self.asked.append(view)
        return np.full((5, 3), view, np.float32)


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: found.append(text % args))
    return found


def build(folder, views, fingerprint=FINGERPRINT):
    teacher = Teacher()
    logits = load_or_build(folder, "teacher", fingerprint, views, teacher)
    for view, array in enumerate(logits.views):
        np.testing.assert_array_equal(array, np.full((5, 3), view))
        assert array.dtype == np.float32
    assert len(logits.views) == views
    return teacher.asked


def files(folder):
    (cache,) = (path for path in folder.iterdir() if path.is_dir())
    return sorted(cache.glob("*.npy"))


def test_the_teacher_is_run_once(tmp_path, warnings):
    assert build(tmp_path, 3) == [0, 1, 2]
    assert build(tmp_path, 3) == []
    assert warnings == []


def test_more_views_add_to_those_there_are_and_fewer_use_them(tmp_path, warnings):
    build(tmp_path, 2)
    assert build(tmp_path, 4) == [2, 3]
    assert build(tmp_path, 1) == []
    assert warnings == []


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_view_is_found_and_made_anew(tmp_path, warnings, damage):
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
    assert "view_0001.npy is damaged or missing; the teacher is run again" in warnings[0]
    assert len(warnings) == 1
    assert build(tmp_path, 3) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"views": {"0": 1}}'])
def test_a_damaged_index_is_made_anew(tmp_path, warnings, content):
    build(tmp_path, 2)
    (index,) = tmp_path.glob("*/index.json")
    index.write_text(content)
    assert build(tmp_path, 2) == [0, 1]
    assert "index.json is damaged" in warnings[0]
    assert build(tmp_path, 2) == []


def test_a_damaged_index_of_another_cache_is_no_matter(tmp_path):
    build(tmp_path, 1)
    (index,) = tmp_path.glob("*/index.json")
    index.write_text("half")
    assert build(tmp_path, 1, dataclasses.replace(FINGERPRINT, seed=1)) == [0]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder for a teacher's logits"):
        build(tmp_path / "file", 1)


def test_a_build_that_was_killed_goes_on(tmp_path):
    def predict(view):
        if view == 1:
            raise KeyboardInterrupt
        return np.full((5, 3), view, np.float32)

    with pytest.raises(KeyboardInterrupt):
        load_or_build(tmp_path, "teacher", FINGERPRINT, 3, predict)
    assert build(tmp_path, 3) == [1, 2]


@pytest.mark.parametrize("part", [field.name for field in dataclasses.fields(Fingerprint)])
def test_another_fingerprint_is_not_used_and_the_part_is_named(tmp_path, warnings, part):
    build(tmp_path, 2)
    value = 1 if part == "seed" else "other"
    changed = dataclasses.replace(FINGERPRINT, **{part: value})
    assert build(tmp_path, 2, changed) == [0, 1]
    assert len(warnings) == 1
    assert f"is not used: another {part}; the teacher is run anew" in warnings[0]
    assert build(tmp_path, 2) == []  # The first one was left alone.


def test_the_seconds_of_all_passes_are_kept(tmp_path):
    first = load_or_build(tmp_path, "teacher", FINGERPRINT, 1, Teacher())
    second = load_or_build(tmp_path, "teacher", FINGERPRINT, 2, Teacher())
    again = load_or_build(tmp_path, "teacher", FINGERPRINT, 2, Teacher())
    fewer = load_or_build(tmp_path, "teacher", FINGERPRINT, 1, Teacher())
    assert 0 < first.seconds < second.seconds == again.seconds
    assert fewer.seconds == first.seconds  # Of the views that are used.
    (index,) = tmp_path.glob("*/index.json")
    assert json.loads(index.read_text())["fingerprint"] == dataclasses.asdict(FINGERPRINT)


def test_digests_see_values_shapes_types_names_and_places():
    variables = {"params": {"a": np.zeros((2, 3), np.float32)}}
    same = {"params": {"a": np.zeros((2, 3), np.float32)}}
    others = [
        {"params": {"a": np.ones((2, 3), np.float32)}},
        {"params": {"a": np.zeros((3, 2), np.float32)}},
        {"params": {"a": np.zeros((2, 3), np.int32)}},
        {"params": {"b": np.zeros((2, 3), np.float32)}},
    ]
    eight, fourteen = (models.build(f"resnet:{depth}", 10) for depth in (8, 14))
    reference = teacher_cache.teacher_digest(eight, variables)
    assert teacher_cache.teacher_digest(eight, same) == reference
    digests = {teacher_cache.teacher_digest(eight, other) for other in others}
    digests.add(teacher_cache.teacher_digest(fourteen, variables))
    assert len(digests | {reference}) == 6
