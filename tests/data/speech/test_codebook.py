import dataclasses
import io

import numpy as np
import pytest

from akd_jax.data.speech import codebook
from akd_jax.data.speech.codebook import Codebook
from akd_jax.data.speech.features import FeatureSettings
from tests.support.errors import error_of

SETTINGS = FeatureSettings(bands=2)  # With six features per code.


def features(count=300, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)


def test_codes_are_the_nearest_centres():
    book = Codebook(features(20, seed=1), SETTINGS)
    rows = features()
    squares = ((rows[:, None].astype(np.float64) - book.centres) ** 2).sum(axis=-1)
    codes = book.encode(rows)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, squares.argmin(axis=1))
    np.testing.assert_array_equal(book.encode(book.centres), np.arange(20))


def test_separate_clusters_get_a_code_each():
    points = 10 * np.eye(6, dtype=np.float32)
    cluster = np.arange(300) % 6
    book = Codebook.fit(points[cluster] + 0.1 * features(), 6, SETTINGS)
    assert book.centres.shape == (6, 6)
    codes = book.encode(points[cluster])
    assert len({*zip(codes.tolist(), cluster.tolist(), strict=True)}) == 6
    np.testing.assert_allclose(book.centres[codes[:6]], points, atol=0.1)


def test_codebook_of_the_same_features_is_the_same():
    first, second = (Codebook.fit(features(), 8, SETTINGS) for _ in range(2))
    np.testing.assert_array_equal(first.centres, second.centres)


def test_too_few_features_are_refused():
    message = error_of(Codebook.fit, features(7), 8, SETTINGS)
    assert "expected recordings of at least 8 codes to fit a codebook of 8, got 7" in message


def test_saved_codebook_gives_the_same_codes(tmp_path):
    book = Codebook.fit(features(), 8, SETTINGS)
    book.save(tmp_path / "codebook.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["codebook.npz"]
    loaded = codebook.load(tmp_path / "codebook.npz")
    assert len(loaded) == 8
    assert loaded.settings == SETTINGS
    np.testing.assert_array_equal(loaded.encode(features(seed=2)), book.encode(features(seed=2)))
    codebook.check_settings(loaded, SETTINGS, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("hops_per_code", 2), ("sample_rate", 8_000), ("highest", 7_000.0)]
)
def test_codebook_of_other_settings_is_refused(tmp_path, name, value):
    book = Codebook(features(4), SETTINGS)
    wanted = dataclasses.replace(SETTINGS, **{name: value})
    message = error_of(codebook.check_settings, book, wanted, tmp_path / "codebook.npz")
    assert message.startswith(
        f"{tmp_path / 'codebook.npz'}: expected a codebook of features with {name}={value}, got"
        f" {getattr(SETTINGS, name)}"
    )


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"PK\x03\x04cut off",
        npz(centres=features(4)),
        npz(centres=features(4), settings=np.array('{"bands": 2, "other": 1}')),
        npz(centres=features(4), settings=np.array("no JSON")),
        npz(centres=features(4), settings=np.array([None], object)),
        npz(centres=features(4)[:, :5], settings=np.array('{"bands": 2}')),
        npz(centres=features(4) * np.inf, settings=np.array('{"bands": 2}')),
    ],
)
def test_file_that_is_no_codebook_is_refused(tmp_path, content):
    path = tmp_path / "codebook.npz"
    path.write_bytes(content)
    message = error_of(codebook.load, path)
    assert message.startswith(f"{path}: expected a codebook of experiments.prepare, got another")
    assert "delete it together with codes.tsv" in message


def test_missing_codebook_is_refused(tmp_path):
    assert "expected a codebook" in error_of(codebook.load, tmp_path / "codebook.npz")
