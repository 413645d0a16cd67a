"""ImitKD, GKD and sequence-level KD in runs on a small language."""

import shutil

import jax
import numpy as np
import pytest
import sacrebleu

from akd_jax import runs
from akd_jax.data.readers import tsv
from akd_jax.host import records
from akd_jax.host.errors import StoppedError
from akd_jax.runs import evaluation
from akd_jax.training import teacher_texts
from akd_jax.training.stage import StageContext
from akd_jax.types import UNLABELLED
from experiments.compare import compare_methods
from tests.support.errors import error_of
from tests.support.runs import assert_same_run, read_metrics
from tests.support.stopping import stop_at_check
from tests.support.texts import write
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


@pytest.mark.slow  # By default, runs of other methods are stopped.
@pytest.mark.parametrize("method", ["imitkd", "gkd"])
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
    rows = list(tsv.read(path, ("source", "rank", "target", "score", "ended")).rows.values())
    plan, models = runs.load(root / "run")
    sources = evaluation.sources(plan, "train")
    assert [row[0] for row in rows] == [source for source in sources for _ in range(5)]
    assert [row[1] for row in rows] == [str(rank) for _ in sources for rank in range(5)]
    # Texts and scores are those of the teacher.
    evaluator = evaluation.Evaluator(plan, beams=5)
    texts = evaluator.texts(models["teacher"], "train")
    best = rows[::5]
    assert [row[2] for row in best] == texts.texts
    np.testing.assert_allclose([float(row[3]) for row in best], texts.scores, atol=1e-4)
    assert [row[4] == "0" for row in best] == texts.without_end.tolist()
    assert set(" ".join(texts.texts).split()) <= set(WORDS.values())
    # Another row of a comparison reads the file.
    before = path.stat().st_mtime_ns
    config.method, config.imitkd.on_teacher_texts = "imitkd", True
    config.teacher.cache_dir = str(root / "run/teacher_logits")
    runs.run(config, tmp_path)
    assert written_files(root / "run") == [path]
    assert path.stat().st_mtime_ns == before
    index = records.read(path.parent / teacher_texts.INDEX)
    results = records.read(root / "run/teacher/results.json")
    assert index["fingerprint"]["teacher"] == results["digest"]


def test_a_stopped_teacher_continues_to_write(root, config, tmp_path, monkeypatch):
    (expected,) = written_files(root / "run")
    monkeypatch.setattr(teacher_texts, "_PART_SOURCES", 16)
    config.method = "seq_kd"
    with stop_at_check(4), pytest.raises(StoppedError):
        runs.run(config, tmp_path)
    finished = {path.name for path in (tmp_path / "teacher_logits").glob("*/parts/*.tsv")}
    assert 0 < len(finished) < 6
    original, rewritten = teacher_texts._write, []

    def spy(path, text):
        rewritten.append(path.name)
        original(path, text)

    monkeypatch.setattr(teacher_texts, "_write", spy)
    runs.run(config, tmp_path)
    assert not finished & set(rewritten)
    (path,) = written_files(tmp_path)
    assert path.read_bytes() == expected.read_bytes()
    assert list((tmp_path / "teacher_logits").glob("*/parts")) == []


def test_a_changed_file_is_refused(root, config, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run")
    (path,) = written_files(tmp_path / "run")
    path.write_text(path.read_text().replace("\t-", "\t", 1))  # A score.
    config.method, config.teacher.cache_dir = "seq_kd", str(path.parent.parent)
    assert error_of(runs.run, config, tmp_path / "other") == (
        f"{path}: expected the texts that index.json describes, got others; delete the folder, so"
        " that the teacher writes again"
    )


def test_texts_that_were_cut_have_no_end(root, config, tmp_path):
    """The texts of a file, one of which was cut, as the examples of the stage."""
    plan, _ = runs.load(root / "run")
    sources = evaluation.sources(plan, "train")
    rows = [(source, "one two", str(int(number != 3))) for number, source in enumerate(sources)]
    write(tmp_path / "mine.tsv", rows, ("source", "target", "ended"))
    config.method, config.seq_kd.path = "seq_kd", str(tmp_path / "mine.tsv")
    plan = runs.make_plan(config)
    (stage,) = plan.method.stages
    context = StageContext(
        plan.dataset, {}, plan.batches, plan.tokenise, lambda name: "digest", tmp_path
    )
    labels = stage.data(context).labels
    end = plan.dataset.task.target.end
    assert ((labels == end).sum(axis=1) == [int(row[2]) for row in rows]).all()
    assert ((labels != UNLABELLED).sum(axis=1) == [2 + int(row[2]) for row in rows]).all()


@pytest.mark.parametrize("dry", [False, True])
def test_a_file_of_another_teacher_or_data_set_is_refused(root, config, tmp_path, dry):
    (path,) = written_files(root / "run")
    config.method, config.seq_kd.path = "seq_kd", str(path)
    if dry:  # The sources are checked before anything is trained.
        lines = path.read_text().splitlines(keepends=True)
        path = tmp_path / "fewer.tsv"
        path.write_text("".join(lines[:-5]))
        config.seq_kd.path = str(path)
        source = lines[-1].split("\t")[0]
        assert error_of(runs.make_plan, config) == (
            f"{path}: expected a text for every source of the training split, got none for 1, such"
            f" as {source!r}; give the file of this data set"
        )
        return
    config.teacher.path, config.teacher.seed = "", 7
    message = error_of(runs.run, config, tmp_path)
    assert message.startswith(f"{path}: expected texts of the teacher with the digest ")
    assert message.endswith("; give the file of this teacher, or leave the path empty")


def test_interpolation_uses_the_beam_that_is_closest_to_the_data(root, config, tmp_path):
    config.method = "seq_kd"
    config.seq_kd.interpolation.update({"epochs": 1, "optimizer": {"learning_rate": 1e-3}})
    config.teacher.cache_dir = str(root / "run/teacher_logits")
    (path,) = written_files(root / "run")
    beams = [row[0] for row in tsv.read(path, ("target",)).rows.values()]
    results = runs.run(config, tmp_path)
    assert [stage["name"] for stage in results["stages"]] == ["seq_kd", "interpolation"]
    plan, models = runs.load(tmp_path)
    context = StageContext(
        plan.dataset,
        models,
        plan.batches,
        plan.tokenise,
        lambda name: records.read(root / "run/teacher/results.json")["digest"],
        root / "run/teacher_logits",
    )
    examples = plan.method.stages[1].data(context)
    target = plan.dataset.task.target
    words = [[x for x in row if x not in (UNLABELLED, target.end)] for row in examples.labels]
    references = evaluation.references(plan, "train")
    for row, text in enumerate(target.decode(words)):
        of_source = beams[5 * row : 5 * row + 5]
        bleu = sacrebleu.BLEU(effective_order=True)
        scores = [bleu.sentence_score(beam, [references[row]]).score for beam in of_source]
        assert text in [x for x, y in zip(of_source, scores, strict=True) if y == max(scores)]
    assert target.decode(words) != beams[::5]


def test_comparison_of_texts(root, config, tmp_path):
    config.student.epochs = 1
    comparison = compare_methods(config, ["scratch", "imitkd"], 1, tmp_path)
    assert comparison["metric"] == "bleu"
    assert "chrf" in comparison["headers"]
    entry = comparison["methods"]["imitkd"]
    assert len(entry["against"]["scratch"]) == len(entry["chrf_against"]["scratch"]) == 2
    cells = dict(zip(comparison["headers"], comparison["rows"][-1], strict=True))
    low, high = entry["chrf_against"]["scratch"]
    assert cells["chrf vs scratch"] == f"{100 * low:+.2f} to {100 * high:+.2f}"
    assert entry["parts"]["chrf"]["mean"] is not None
    assert "Texts are decoded greedily." in comparison["notes"]
    results = runs.evaluate(tmp_path / "imitkd/seed_0")
    assert entry["test"]["mean"] == results["student"]["bleu"]

    by_beams = compare_methods(config, ["scratch", "imitkd"], 1, tmp_path, beams=3)
    assert any("decoded with 3 beams" in note for note in by_beams["notes"])
    assert (comparison["beams"], by_beams["beams"]) == (1, 3)
    texts = runs.generate(tmp_path / "imitkd/seed_0", beams=3)["student"].texts
    assert texts != runs.generate(tmp_path / "imitkd/seed_0")["student"].texts
    targets = evaluation.references(runs.load(tmp_path / "imitkd/seed_0")[0], "test")
    expected = sacrebleu.corpus_bleu(texts, [targets]).score / 100
    assert by_beams["methods"]["imitkd"]["test"]["mean"] == pytest.approx(expected)
    assert by_beams["methods"]["imitkd"]["test_last"] == entry["test_last"]


@pytest.mark.parametrize("method", ["seq_kd", "imitkd", "gkd"])
def test_labels_are_refused(method):
    from tests.support.configs import small_config

    config = small_config()
    config.method = method
    assert error_of(runs.make_plan, config) == (
        "config.method: expected a data set of texts to generate, such as parallel_text, for"
        f" {method}, got one with labels or numbers; choose another method or data set"
    )
