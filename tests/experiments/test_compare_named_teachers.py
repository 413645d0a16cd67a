"""Comparisons with several named teachers, which all rows share."""

import shutil

import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax.host import records
from configs import named_teachers
from experiments.compare import compare_methods
from tests.support.groups import teacher, use_grouped_digits
from tests.support.networks import use_featured_networks
from tests.support.texts import text_config, write_folders

ROWS = {
    "uniform": {"method": "rl_kd", "rl_kd": {"choice": "weighted"}},
    "policy": {"method": "rl_kd", "rl_kd": {"choice": "reinforced"}},
}
FOLDS = ["a_fold_0", "a_fold_1", "b_fold_0", "b_fold_1"]


def assert_shared(workdir):
    """Checks that the teachers of the folds are in the folder of the comparison."""
    assert sorted(path.name for path in workdir.glob("*_fold_*")) == FOLDS
    assert not list(workdir.glob("*/seed_0/*_fold_*"))
    digests = {records.read(workdir / name / "results.json")["digest"] for name in FOLDS}
    for row in ROWS:
        key = records.read_config(workdir / row / "seed_0")["resume_key"]
        assert {x["digest"] for x in key["teachers"].values()} == digests
    return digests


def test_rows_share_the_trained_teachers_of_the_folds(config, tmp_path, monkeypatch):
    use_featured_networks(monkeypatch, config, teacher=4, student=4)
    use_grouped_digits(monkeypatch, config)
    config.student.epochs = 1
    config.rl_kd.folds = 2
    config.rl_kd.teachers = ConfigDict({name: teacher(config, 5) for name in ("a", "b")})
    config.variants = ConfigDict(ROWS)
    compare_methods(config, list(ROWS), 1, tmp_path)
    # The teachers of a fold learn from the same examples, and so are equal.
    assert len(assert_shared(tmp_path)) == 2


@pytest.mark.slow  # The test above shares trained teachers.
def test_rows_share_the_teachers_of_the_folds_from_hugging_face_folders(tmp_path):
    write_folders(tmp_path)
    for name in FOLDS:
        shutil.copytree(tmp_path / "bert", tmp_path / f"tuned_{name}")
    config = text_config(tmp_path)
    config.student.epochs = 1
    config.rl_kd.folds = 2
    config.rl_kd.teachers = ConfigDict(
        {
            name: named_teachers.teacher("", path=str(tmp_path / f"tuned_{name}"))
            for name in ("a", "b")
        }
    )
    config.variants = ConfigDict(ROWS)
    compare_methods(config, list(ROWS), 1, tmp_path / "comparison")
    assert_shared(tmp_path / "comparison")
