import itertools
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest

from akd_jax import interrupts, records, runs
from akd_jax.errors import InputError, StoppedError
from akd_jax.plan import STUDENT


@pytest.fixture
def config(config, teacher_path):
    config.method = "kd"
    config.teacher.path = teacher_path
    config.checkpoint_every = 1
    return config


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, and a function that changes its size and options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if os.geteuid() or not mount("size=1m"):
        pytest.skip("needs the right to mount a tmpfs, which root has on most machines")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def student(workdir):
    return runs.load(workdir, teachers=False)[1][STUDENT].variables


def stop(monkeypatch, config, workdir, looks):
    counter = itertools.count(1)
    with monkeypatch.context() as patched:
        patched.setattr(interrupts, "stop_requested", lambda: next(counter) >= looks)
        with pytest.raises(StoppedError):
            runs.run(config, workdir)


def newest(workdir):
    folders = (workdir / "student" / "kd").iterdir()
    return max((path for path in folders if path.name.isdigit()), key=lambda path: int(path.name))


def test_a_full_disk_is_said_and_loses_nothing(config, small_disk, tmp_path):
    disk, remount = small_disk
    with pytest.raises(InputError, match=r"MB free where a checkpoint needs .*make room there"):
        runs.run(config, disk / "run")  # After some checkpoints, which have to go on existing.
    kept = [path.name for path in (disk / "run/student/kd").iterdir() if path.name.isdigit()]
    assert kept
    assert remount("size=50m")
    runs.run(config, disk / "run")
    runs.run(config, tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, student(disk / "run"), student(tmp_path / "whole"))


def test_a_workdir_that_can_only_be_read(config, small_disk):
    disk, remount = small_disk
    (disk / "run").mkdir()
    assert remount("ro")
    with pytest.raises(InputError, match=r"that can be written, got: Read-only file system"):
        runs.run(config, disk / "run")
    assert remount("rw")


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_a_damaged_checkpoint_costs_one_interval(config, tmp_path, monkeypatch, damage):
    runs.run(config, tmp_path / "whole")
    stop(monkeypatch, config, tmp_path / "damaged", looks=40)
    damaged = newest(tmp_path / "damaged")
    files = sorted(path for path in damaged.rglob("*") if path.is_file())
    for file in files:
        if damage == "delete":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:10])
    runs.run(config, tmp_path / "damaged")
    jax.tree.map(
        np.testing.assert_array_equal, student(tmp_path / "damaged"), student(tmp_path / "whole")
    )
    aside = damaged.with_name(f"unreadable_{damaged.name}")
    assert aside.exists()  # Nothing is thrown away.


def test_a_teacher_of_another_architecture(config, tmp_path, teacher_path):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher_path, copy)
    results = records.read(copy / records.RESULTS)
    records.write(copy / records.RESULTS, {**results, "model": "plain_cnn:7 M FC"})
    config.teacher.path = str(copy)
    with pytest.raises(InputError, match=r"as float32 \[7\], got float32 \[8\]; it is the ch"):
        runs.run(config, tmp_path / "run")


def test_a_teacher_with_the_weights_of_another(config, tmp_path, teacher_path):
    copy = tmp_path / "teacher"
    shutil.copytree(teacher_path, copy)
    results = records.read(copy / records.RESULTS)
    records.write(copy / records.RESULTS, {**results, "digest": "0" * 16})
    config.teacher.path = str(copy)
    with pytest.raises(InputError, match=r"expected the weights that its results\.json tells of"):
        runs.run(config, tmp_path / "run")
