import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import InputError
from akd_jax.training import parallel


def make_state(value):
    return parallel.replicate(
        {"w": jnp.full((3, 2), value), "key": jax.random.key(int(value)), "step": jnp.int32(value)}
    )


def save(directory, numbers):
    with Checkpoints(directory) as checkpoints:
        for number in numbers:
            items = {"state": make_state(float(number)), "best": {"w": np.full(2, number)}}
            checkpoints.save(number, items, {"epoch": number, "score": 0.1 * number})


def restore(directory, **options):
    with Checkpoints(directory, **options) as checkpoints:
        return checkpoints.restore({"state": make_state(0.0), "best": {"w": np.zeros(2, int)}})


def truncate_arrays(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])


def test_newest_checkpoint_is_restored_to_the_same_types_and_devices(tmp_path):
    save(tmp_path, [1, 2])
    items, progress = restore(tmp_path)
    assert progress == {"epoch": 2, "score": 0.2}
    np.testing.assert_array_equal(items["state"]["w"], np.full((3, 2), 2.0))
    assert items["state"]["key"] == jax.random.key(2)
    assert items["state"]["step"].sharding == make_state(0.0)["step"].sharding
    assert isinstance(items["best"]["w"], np.ndarray)
    np.testing.assert_array_equal(items["best"]["w"], [2, 2])


def test_nonfinite_progress_is_saved_as_null(tmp_path, caplog):
    best = {"best": {"w": np.zeros(2)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, best, {"epoch": 1, "score": -math.inf})
    assert any(
        "expected finite numbers, got NaN or infinity in score" in message
        for message in caplog.messages
    )
    with Checkpoints(tmp_path) as checkpoints:
        _, progress = checkpoints.restore(best)
    assert progress == {"epoch": 1, "score": None}


def test_only_the_two_newest_checkpoints_are_kept(tmp_path):
    save(tmp_path, [1, 2, 3, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_empty_directory_restores_none(tmp_path):
    assert restore(tmp_path / "new") is None


def test_unreadable_checkpoint_is_set_aside_and_its_number_can_be_saved_again(tmp_path):
    save(tmp_path, [1, 2])
    truncate_arrays(tmp_path / "2")
    assert restore(tmp_path)[1]["epoch"] == 1
    assert (tmp_path / "unreadable_2").exists()
    save(tmp_path, [2])
    assert restore(tmp_path)[1]["epoch"] == 2


def test_read_only_restore_changes_no_file(tmp_path):
    save(tmp_path, [1, 2])
    truncate_arrays(tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    assert restore(tmp_path, read_only=True)[1]["epoch"] == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_any_readable_checkpoint_no_file_is_changed(tmp_path):
    save(tmp_path, [1, 2])
    truncate_arrays(tmp_path / "1")
    truncate_arrays(tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        with pytest.raises(InputError, match="got 2 that cannot be read; try again, or delete"):
            restore(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before


def test_temporary_read_error_loses_no_checkpoint(tmp_path):
    directory = tmp_path / "checkpoints"
    save(directory, [1, 2])
    for number in ("1", "2"):
        (directory / number / "state").rename(tmp_path / f"state_{number}")
    with pytest.raises(InputError):
        restore(directory)
    for number in ("1", "2"):
        (tmp_path / f"state_{number}").rename(directory / number / "state")
    assert restore(directory)[1]["epoch"] == 2
