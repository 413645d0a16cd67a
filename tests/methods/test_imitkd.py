"""ImitKD, GKD and sequence-level KD in runs on a small language."""

import jax
import numpy as np
import pytest

from akd_jax import runs
from akd_jax.data.readers import tsv
from akd_jax.host.errors import StoppedError
from akd_jax.runs import evaluation
from akd_jax.training import teacher_texts
from experiments.compare import compare_methods
from tests.support.errors import error_of
from tests.support.runs import assert_same_run, read_metrics
from tests.support.stopping import stop_at_check
from tests.support.translating import WORDS, translation_config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of translations and a finished run of seq_kd, which no test changes."""
    folder = tmp_path_factory.mktemp("translation")
    config = translation_config(folder)
    config.method = "seq_kd"
    runs.run(config, folder / "run")
    return folder


@pytest.fixture
def config(root):
    config = translation_config(root)
    config.teacher.path = str(root / "run/teacher")
    return config


def params_of(folder):
    return runs.load(folder, teachers=False)[1]["student"].variables["params"]


def written_files(folder):
    return sorted((folder / "teacher_logits").glob(f"*/{teacher_texts.TEXTS}"))


def test_imitkd_that_keeps_all_contexts_is_training_on_the_data(config, tmp_path):
    runs.run(config, tmp_path / "scratch")
    config.method = "imitkd"
    config.imitkd.final_beta = 1.0
    runs.run(config, tmp_path / "imitkd")
    jax.tree.map(
        np.testing.assert_array_equal,
        params_of(tmp_path / "scratch"),
        params_of(tmp_path / "imitkd"),
    )


@pytest.mark.parametrize("method", ["imitkd", pytest.param("gkd", marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_if_undisturbed(config, tmp_path, method):
    config.method = method
    config.imitkd.final_beta = 0.01
    runs.run(config, tmp_path / "undisturbed")
    # The 6 steps of the first epoch, its evaluation, and 2 steps of the second one.
    with stop_at_check(11), pytest.raises(StoppedError):
        runs.run(config, tmp_path / "stopped")
    runs.run(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "undisturbed")


def test_beta_falls_with_every_update(config, tmp_path):
    config.method = "imitkd"
    config.imitkd.final_beta = 0.01
    runs.run(config, tmp_path)
    kept = [line["kept"] for line in read_metrics(tmp_path)]
    # The values of the last updates, 5 and 11 of 12.
    assert kept == pytest.approx([0.01 ** (5 / 12), 0.01 ** (11 / 12)], rel=1e-5)


def test_the_teacher_writes_a_file_that_people_can_read_once(root, config, tmp_path):
    (path,) = written_files(root / "run")
    pairs = tsv.texts(tsv.read(path, ("source", "target", "score")))
    plan, _ = runs.load(root / "run")
    assert pairs[:, 0].tolist() == evaluation.column(plan, "train", 0)
    # Texts and scores are those of the teacher.
    texts = runs.generate(root / "run", "train", teachers=True, beams=5)["teacher"]
    assert pairs[:, 1].tolist() == texts.texts
    np.testing.assert_allclose(np.float64(pairs[:, 2]), texts.scores, atol=1e-4)
    assert set(" ".join(texts.texts).split()) <= set(WORDS.values())
    before = path.stat().st_mtime_ns
    config.method, config.imitkd.on_teacher_texts = "imitkd", True
    config.teacher.cache_dir = str(root / "run/teacher_logits")
    runs.run(config, tmp_path)
    assert written_files(root / "run") == [path]
    assert path.stat().st_mtime_ns == before


def test_a_stopped_teacher_continues_to_write(root, config, tmp_path, monkeypatch):
    (expected,) = written_files(root / "run")
    monkeypatch.setattr(teacher_texts, "_PART_ROWS", 16)
    config.method = "seq_kd"
    with stop_at_check(4), pytest.raises(StoppedError):
        runs.run(config, tmp_path)
    parts = sorted((tmp_path / "teacher_logits").glob("*/parts/*.tsv"))
    assert 0 < len(parts) < 6
    times = {path.name: path.stat().st_mtime_ns for path in parts}
    write, rewritten = teacher_texts._write, []

    def spy(path, rows):
        rewritten.append(path.name)
        write(path, rows)

    monkeypatch.setattr(teacher_texts, "_write", spy)
    runs.run(config, tmp_path)
    assert not set(times) & set(rewritten)
    (path,) = written_files(tmp_path)
    assert path.read_bytes() == expected.read_bytes()


def test_a_file_of_another_teacher_is_refused(root, config, tmp_path):
    (path,) = written_files(root / "run")
    config.method, config.seq_kd.path = "seq_kd", str(path)
    config.teacher.path, config.teacher.seed = "", 7
    message = error_of(runs.run, config, tmp_path)
    assert message.startswith(f"{path}: expected texts of the teacher with the digest ")
    assert message.endswith("; give the file of this teacher, or leave the path empty")


def test_interpolation_uses_the_beam_that_is_closest_to_the_data(root, config, tmp_path):
    config.method = "seq_kd"
    config.seq_kd.interpolation.update({"epochs": 1, "optimizer": {"learning_rate": 1e-3}})
    results = runs.run(config, tmp_path)
    assert [stage["name"] for stage in results["stages"]] == ["seq_kd", "interpolation"]
    by_folder = {path.parent.name.rpartition("-")[0]: path for path in written_files(tmp_path)}
    assert set(by_folder) == {"teacher_texts", "teacher_interpolated"}
    texts, closest = (
        [float(row[0]) for row in tsv.read(path, ("score",)).rows.values()]
        for _, path in sorted(by_folder.items(), reverse=True)
    )
    # The closest beam is at most as probable as the best one.
    assert np.all(np.array(closest) <= np.array(texts) + 1e-3)
    assert closest != texts


def test_comparison_of_texts(root, config, tmp_path):
    config.student.epochs = 1
    comparison = compare_methods(config, ["scratch", "imitkd"], 1, tmp_path)
    assert comparison["metric"] == "bleu"
    assert "chrf" in comparison["headers"]
    entry = comparison["methods"]["imitkd"]
    assert len(entry["against"]["scratch"]) == 2
    assert entry["parts"]["chrf"]["mean"] is not None
    assert any("Texts are decoded greedily" in note for note in comparison["notes"])


@pytest.mark.parametrize("method", ["seq_kd", "imitkd", "gkd"])
def test_labels_are_refused(method):
    from tests.support.configs import small_config

    config = small_config()
    config.method = method
    assert error_of(runs.make_plan, config) == (
        "config.method: expected a data set of texts to generate, such as parallel_text, for"
        f" {method}, got one with labels or numbers; choose another method or data set"
    )
