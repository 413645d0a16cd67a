import os
import shutil
import subprocess

import jax
import numpy as np
import pytest

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.errors import InputError, StoppedError
from akd_jax.runs.setup import STUDENT
from tests.support.configs import small_config
from tests.support.launching import GUARD_SECONDS
from tests.support.runs import read_progress
from tests.support.stopping import stop_at_check


def make_config(teacher_path):
    config = small_config()
    config.method = "kd"
    config.teacher.path = teacher_path
    config.checkpoint_every = 1
    return config


@pytest.fixture
def config(teacher_path):
    return make_config(teacher_path)


@pytest.fixture(scope="module")
def expected_student(teacher_path, tmp_path_factory):
    """The variables of the student of a run without damage."""
    workdir = tmp_path_factory.mktemp("undamaged")
    runs.run(make_config(teacher_path), workdir)
    return load_student(workdir)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on its own small disk, and a function that changes the disk's size and options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=GUARD_SECONDS)
        return done.returncode == 0

    if os.geteuid() or not mount("size=1m"):
        pytest.skip("needs the right to mount a tmpfs, which root has on most machines")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=GUARD_SECONDS)


def load_student(workdir):
    return runs.load(workdir, teachers=False)[1][STUDENT].variables


def checkpoints(workdir):
    """The folders of the student's checkpoints, oldest first."""
    folders = (workdir / "student" / "kd").iterdir()
    return sorted((path for path in folders if path.name.isdigit()), key=lambda p: int(p.name))


def test_full_disk_is_reported_and_the_run_resumes(config, small_disk, expected_student):
    disk, remount = small_disk
    with pytest.raises(InputError, match=r"MB free, but a checkpoint needs .*free some disk space"):
        runs.run(config, disk / "run")
    assert checkpoints(disk / "run")
    assert remount("size=50m")
    runs.run(config, disk / "run")
    jax.tree.map(np.testing.assert_array_equal, load_student(disk / "run"), expected_student)


def test_read_only_workdir_is_refused(config, small_disk):
    disk, remount = small_disk
    (disk / "run").mkdir()
    assert remount("ro")
    with pytest.raises(InputError, match=r"that can be written, got: Read-only file system"):
        runs.run(config, disk / "run")
    assert remount("rw")


def test_run_resumes_from_the_checkpoint_before_a_damaged_one(config, tmp_path, expected_student):
    with stop_at_check(40), pytest.raises(StoppedError):
        runs.run(config, tmp_path / "truncated")
    progress = read_progress(tmp_path / "truncated" / "student" / "kd")
    assert (progress["epoch"], progress["step"]) == (4, 5)
    shutil.copytree(tmp_path / "truncated", tmp_path / "deleted")
    for damage in ("truncated", "deleted"):
        workdir = tmp_path / damage
        _, newest = checkpoints(workdir)
        for file in [path for path in newest.rglob("*") if path.is_file()]:
            if damage == "deleted":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[:10])
        runs.run(config, workdir)
        jax.tree.map(np.testing.assert_array_equal, load_student(workdir), expected_student)
        assert newest.with_name(f"unreadable_{newest.name}").exists()


def copy_teacher(teacher_path, target, **changes):
    """Copies a teacher's folder with changes in its results.json."""
    shutil.copytree(teacher_path, target)
    results = records.read(target / records.RESULTS)
    records.write(target / records.RESULTS, {**results, **changes})
    return str(target)


def test_teacher_checkpoint_of_another_architecture_is_refused(config, tmp_path, teacher_path):
    config.teacher.path = copy_teacher(teacher_path, tmp_path / "teacher", model="plain_cnn:7 M FC")
    with pytest.raises(InputError, match=r"as float32 \[7\], got float32 \[8\], of another net"):
        runs.run(config, tmp_path / "run")


def test_teacher_checkpoint_with_other_weights_is_refused(config, tmp_path, teacher_path):
    config.teacher.path = copy_teacher(teacher_path, tmp_path / "teacher", digest="0" * 16)
    with pytest.raises(InputError, match=r"expected the weights that its results\.json"):
        runs.run(config, tmp_path / "run")
