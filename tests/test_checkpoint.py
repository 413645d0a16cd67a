import math

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from akd_jax import parallel
from akd_jax.checkpoint import Checkpoints
from akd_jax.errors import InputError


def state(value):
    return parallel.replicate(
        {"w": jnp.full((3, 2), value), "key": jax.random.key(int(value)), "step": jnp.int32(value)}
    )


def save(directory, epochs):
    with Checkpoints(directory) as checkpoints:
        for epoch in epochs:
            items = {"state": state(float(epoch)), "best": {"w": np.full(2, epoch)}}
            checkpoints.save(epoch, items, {"epoch": epoch, "score": 0.1 * epoch})


def restore(directory, **options):
    with Checkpoints(directory, **options) as checkpoints:
        return checkpoints.restore({"state": state(0.0), "best": {"w": np.zeros(2, int)}})


def damage(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])


def test_what_is_saved_is_restored(tmp_path):
    save(tmp_path, [1, 2])
    items, progress = restore(tmp_path)
    assert progress == {"epoch": 2, "score": 0.2}
    np.testing.assert_array_equal(items["state"]["w"], np.full((3, 2), 2.0))
    assert items["state"]["key"] == jax.random.key(2)
    assert items["state"]["step"].sharding == state(0.0)["step"].sharding
    assert isinstance(items["best"]["w"], np.ndarray)
    np.testing.assert_array_equal(items["best"]["w"], [2, 2])


def test_progress_that_is_not_finite_is_saved_as_null(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"best": {"w": np.zeros(2)}}, {"epoch": 1, "score": -math.inf})
    with Checkpoints(tmp_path) as checkpoints:
        _, progress = checkpoints.restore({"best": {"w": np.zeros(2)}})
    assert progress == {"epoch": 1, "score": None}


def test_the_last_two_are_kept_and_nothing_else(tmp_path):
    save(tmp_path, [1, 2, 3, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_nothing_saved_restores_nothing(tmp_path):
    assert restore(tmp_path / "new") is None


def test_a_damaged_checkpoint_falls_back_and_can_be_saved_again(tmp_path):
    save(tmp_path, [1, 2])
    damage(tmp_path / "2")
    assert restore(tmp_path)[1]["epoch"] == 1
    assert (tmp_path / "unreadable_2").exists()  # Out of the way, and not lost.
    save(tmp_path, [2])
    assert restore(tmp_path)[1]["epoch"] == 2


def test_reading_deletes_nothing(tmp_path):
    save(tmp_path, [1, 2])
    damage(tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    assert restore(tmp_path, read_only=True)[1]["epoch"] == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_where_none_can_be_read_none_is_touched(tmp_path):
    save(tmp_path, [1, 2])
    damage(tmp_path / "1")
    damage(tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        with pytest.raises(InputError, match="got 2 that cannot; try again, or delete"):
            restore(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_passing_error_loses_nothing(tmp_path, monkeypatch):
    save(tmp_path, [1, 2])

    def fail(*args, **kwargs):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(ocp.CheckpointManager, "restore", fail)
        with pytest.raises(InputError):
            restore(tmp_path)
    assert restore(tmp_path)[1]["epoch"] == 2
