"""The part of a teacher's outputs that is stored, on disk and as the training step reads it."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from akd_jax.teachers.live import StoredTeacher
from akd_jax.teachers.selection import Selection
from akd_jax.teachers.stored import Fingerprint, load_or_build
from akd_jax.types import Batch, Outputs

RNG = np.random.default_rng(0)
LOGITS = np.float32(RNG.normal(size=(5, 7)))
HIDDEN = np.float32(RNG.normal(size=(5, 3)))
MAP = np.float32(RNG.normal(size=(5, 2, 4)))
OUTPUTS = Outputs(jnp.asarray(LOGITS), {"hidden": jnp.asarray(HIDDEN), "map": jnp.asarray(MAP)})
ROWS = np.array([3, 1])


def store(folder, selection):
    """The outputs of one view, stored in a folder and read again."""
    fingerprint = Fingerprint("t", "d", "a", 0, "p", selection=repr(selection))
    (view,) = load_or_build(
        folder, "teacher", fingerprint, 1, lambda view: selection(OUTPUTS)
    ).views
    return view


def read(folder, selection):
    """The outputs that a training step reads from the store, for a batch of some rows."""
    view = store(folder, selection)
    take = {name: array[ROWS] for name, array in view.features.items()}
    top_k = view.top_k and type(view.top_k)(
        *(getattr(view.top_k, name)[ROWS] for name in ("values", "indices", "log_sum_exp"))
    )
    stored = Outputs(view.logits[ROWS], take, top_k)
    batch = Batch(np.zeros(2), np.zeros(2), np.ones(2), stored={"teacher": stored})
    return StoredTeacher("teacher")(batch)


def names(folder):
    return sorted(path.name for path in folder.glob("*/*.npy"))


def test_logits_alone_are_stored_by_default(tmp_path):
    outputs = read(tmp_path, Selection())
    np.testing.assert_array_equal(outputs.logits, LOGITS[ROWS])
    assert (dict(outputs.features), outputs.top_k) == ({}, None)
    assert names(tmp_path) == ["view_0000.logits.npy"]


def test_chosen_features_are_stored_exactly_in_float32(tmp_path):
    outputs = read(tmp_path, Selection(("hidden", "map")))
    np.testing.assert_array_equal(outputs.logits, LOGITS[ROWS])
    np.testing.assert_array_equal(outputs.features["hidden"], HIDDEN[ROWS])
    np.testing.assert_array_equal(outputs.features["map"], MAP[ROWS])
    assert names(tmp_path) == [
        "view_0000.feature.hidden.npy",
        "view_0000.feature.map.npy",
        "view_0000.logits.npy",
    ]


def test_bfloat16_outputs_are_rounded_once_and_read_in_float32(tmp_path):
    selection = Selection(("hidden",), dtype="bfloat16")
    outputs = read(tmp_path, selection)
    for actual, exact in ((outputs.logits, LOGITS), (outputs.features["hidden"], HIDDEN)):
        assert actual.dtype == np.float32
        expected = exact[ROWS].astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(actual, expected)
        assert (expected != exact[ROWS]).any()
    assert store(tmp_path, selection).logits.dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_largest_logits_are_stored_with_the_normaliser_of_all(tmp_path, dtype):
    outputs = read(tmp_path, Selection(dtype=dtype, top_k=3))
    order = np.argsort(-LOGITS[ROWS], axis=-1)[:, :3]
    values = np.take_along_axis(LOGITS[ROWS], order, axis=-1)
    np.testing.assert_array_equal(outputs.top_k.indices, order)
    assert outputs.top_k.indices.dtype == np.int32
    np.testing.assert_array_equal(outputs.top_k.values, values.astype(dtype).astype(np.float32))
    # The normaliser is exact even if the values are rounded.
    expected = np.log(np.exp(np.float64(LOGITS[ROWS])).sum(axis=-1))
    np.testing.assert_allclose(outputs.top_k.log_sum_exp, expected, rtol=1e-6)
    assert outputs.logits.shape == (2, 0)
