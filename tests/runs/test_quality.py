"""Runs on translations with scores: unlabelled pairs, stored scores, and what users get of them."""

import json

import jax
import numpy as np
import pytest

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.runs import make_plan
from experiments import evaluate, export, predict
from experiments.compare import compare_methods
from tests.support.killing import Killed, kill_at_record
from tests.support.quality import HEADER, pairs, quality_config
from tests.support.runs import assert_same_run, read_metrics
from tests.support.texts import write

TRAIN, UNLABELLED = 60, 50


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of pairs, an encoder and a finished teacher, which no test changes."""
    folder = tmp_path_factory.mktemp("quality")
    config = quality_config(folder)
    runs.run(config, folder / "run")
    return folder


@pytest.fixture
def config(root):
    config = quality_config(root)
    config.teacher.path = str(root / "run/teacher")
    return config


UNDISTURBED = {"dataset": {"unlabelled_size": 30}, "student": {"epochs": 3}}


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    """A finished run with 30 unlabelled pairs."""
    config = quality_config(root)
    config.teacher.path = str(root / "run/teacher")
    config.update(UNDISTURBED)
    folder = tmp_path_factory.mktemp("undisturbed")
    runs.run(config, folder)
    return folder


def values(root, names, model):
    """The predictions of a model for the pairs of some files, in the order of the files."""
    plan, models = runs.load(root / "run")
    rows = [line.split("\t") for name in names for line in read_lines(root, name)]
    examples, _ = plan.tokenise(np.array([row[:2] for row in rows], object))
    return np.float64(models[model](examples.inputs).logits)[:, 0]


def read_lines(root, name):
    return (root / f"pairs/{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.slow  # By default, test_unlabelled.py compares the losses of a classification.
def test_unlabelled_pairs_count_for_the_teacher_alone(root, config, tmp_path):
    """The losses of the first epoch by hand: the student keeps its initial parameters."""
    config.student.model = config.teacher.model  # A network without dropout.
    config.kd.weight = 0.75
    config.dataset.unlabelled_size = 30
    config.student.epochs = 1
    config.student.optimizer.learning_rate = 1e-60  # 0 in float32.
    config.batch_size = TRAIN + 32  # A multiple of the devices; two rows only fill it up.
    runs.run(config, tmp_path)
    (line,) = read_metrics(tmp_path)
    plan, models = runs.load(tmp_path)
    scores = np.array([float(row.split("\t")[2]) for row in read_lines(root, "train")])
    labels = (scores - scores.min()) / np.ptp(scores)
    rows = [*read_lines(root, "train"), *read_lines(root, "unlabelled")[:30]]
    examples, _ = plan.tokenise(np.array([row.split("\t")[:2] for row in rows], object))
    student, teacher = (
        np.float64(models[name](examples.inputs).logits)[:, 0] for name in ("student", "teacher")
    )
    soft = np.square(student - teacher).mean()
    hard = np.square(student[:TRAIN] - labels).mean()
    assert line["train_soft"] == pytest.approx(soft, rel=1e-4)
    assert line["train_hard"] == pytest.approx(hard, rel=1e-4)
    assert line["train_loss"] == pytest.approx(
        0.25 * line["train_hard"] + 0.75 * line["train_soft"], rel=1e-5
    )


def read_stores(folder):
    """The index of each store of scores; its entries hold checksums and durations."""
    return {
        path.parent.name: json.loads(path.read_text())["views"]
        for path in folder.glob("*/index.json")
    }


def test_rows_share_the_stored_scores(root, config, undisturbed, tmp_path):
    """A run with another number of unlabelled pairs and another method does not score them."""
    stored = undisturbed / "teacher_logits"
    before = read_stores(stored)
    assert sorted(name.rpartition("-")[0] for name in before) == ["teacher", "teacher.unlabelled"]
    config.teacher.cache_dir = str(stored)
    config.student.epochs = 2
    config.annealing_kd.update({"stage_1": {"epochs": 1}, "max_temperature": 1})
    config.method, config.dataset.unlabelled_size = "annealing_kd", 20
    results = runs.run(config, tmp_path)
    # 80 pairs in the stage with a teacher, and 60 in the one without, in batches of 20.
    assert [stage["steps"] for stage in results["stages"]] == [4, 3]
    assert read_stores(stored) == before
    # A run without unlabelled pairs uses the first of the stores.
    assert read_stores(root / "run/teacher_logits").keys() < before.keys()
    arrays = [np.load(path)[:, 0] for path in sorted(stored.glob("*/*.npy"))]
    # The training split has an order of its own.
    train, unlabelled = (values(root, [name], "teacher") for name in ("train", "unlabelled"))
    np.testing.assert_allclose(np.sort(arrays[0]), np.sort(train), atol=1e-5)
    np.testing.assert_allclose(arrays[1], unlabelled, atol=1e-5)


@pytest.mark.slow  # The tests above compare the losses with hand numbers.
def test_a_student_learns_scores_from_its_teacher(config, tmp_path):
    config.checkpoint_every = 30
    config.dataset.unlabelled_size = UNLABELLED
    config.student.epochs = 30
    results = runs.run(config, tmp_path)
    metrics = results["student"]["metrics"]["test"]
    assert set(metrics) == {"pearson", "spearman", "mae", "rmse"}
    assert metrics["pearson"] > 0.6
    # The errors are in the units of the files, whose scores reach from 0 to 100.
    assert 5 < metrics["mae"] < metrics["rmse"] < 40


@pytest.mark.slow  # tests/teachers/test_stored.py interrupts the writing of a store.
def test_run_killed_while_scores_are_stored_ends_as_if_undisturbed(
    config, undisturbed, tmp_path, monkeypatch
):
    config.update(UNDISTURBED)
    save = records.write

    def deadly(path, content):
        if path.name == "index.json" and "unlabelled" in path.parent.name:
            raise Killed
        save(path, content)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(records, "write", deadly)
        runs.run(config, tmp_path)
    with kill_at_record(monkeypatch, 3):
        runs.run(config, tmp_path)
    runs.run(config, tmp_path)
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.slow  # By default, test_compare.py compares rows, and a test above shares scores.
def test_comparison_of_rows_with_other_numbers_of_pairs(config, tmp_path):
    config.variants = {
        "gold": {"method": "scratch"},
        "kd_30": {"dataset": {"unlabelled_size": 30}, "student": {"epochs": 2}},
    }
    config.student.epochs = 3
    config.teacher.path, config.teacher.epochs = "", 1
    comparison = compare_methods(config, ["gold", "kd_30"], 1, tmp_path, ["gold"])
    assert comparison["headers"][3:5] == ["vs gold", "p vs gold"]
    rows = {row[0]: row for row in comparison["rows"]}
    assert rows["gold"][4] == ""
    (p_value,) = comparison["methods"]["kd_30"]["williams"]["gold"]
    assert rows["kd_30"][4] in (f"{p_value:.3f}", "< 0.001")
    assert "trained for 9 to 10 updates" in comparison["notes"][0]
    # A row without unlabelled pairs has the same teacher.
    trained = (tmp_path / "teacher/results.json").read_text()
    compare_methods(config, ["kd"], 1, tmp_path, ["gold"])
    assert (tmp_path / "teacher/results.json").read_text() == trained
    # The rows have 9 and 15 updates, and an epoch has 5 at most.
    config.variants.kd_30.student.epochs = 3
    message = r"number of student updates, up to half an epoch, got \{'gold': 9, 'kd_30': 15\}"
    with pytest.raises(InputError, match=message):
        compare_methods(config, ["gold", "kd_30"], 1, tmp_path / "unequal")


def test_predictions_have_the_units_of_the_files(root, tmp_path):
    rows = pairs(5, seed=3)
    write(tmp_path / "new.tsv", [(i, *row) for i, row in enumerate(rows)], ("segment", *HEADER))
    lines = predict.predict_file(root / "run", tmp_path / "new.tsv")
    plan, models = runs.load(root / "run")
    examples, _ = plan.tokenise(np.array([row[:2] for row in rows], object))
    scores = [float(row.split("\t")[2]) for row in read_lines(root, "train")]
    expected = min(scores) + np.ptp(scores) * np.asarray(models["student"](examples.inputs).logits)
    assert lines[0] == "index\tprediction"
    index, predicted = zip(*(line.split("\t") for line in lines[1:]), strict=True)
    assert index == ("0", "1", "2", "3", "4")
    np.testing.assert_allclose([*map(float, predicted)], expected[:, 0], atol=1e-4)
    with pytest.raises(InputError, match=r"--format: expected glue .*, got wmt and none"):
        predict.predict_file(root / "run", tmp_path / "new.tsv", format_name="wmt")


def test_submission_for_wmt(config, tmp_path):
    config.dataset.language_pair = "en-es"
    config.method = "scratch"
    config.student.epochs = 1
    runs.run(config, tmp_path / "run")
    write(tmp_path / "new.tsv", pairs(2, seed=3), HEADER)
    lines = predict.predict_file(tmp_path / "run", tmp_path / "new.tsv", format_name="wmt")
    scores = predict.predict_file(tmp_path / "run", tmp_path / "new.tsv")[1:]
    # Two sides of: embeddings 20 x 8; GRUs 2 x 3 x (8 x 8 + 8 x 8) + 2 x 4 x 8; 16 x 16 + 16; 16.
    parameters = 2 * (160 + 768 + 64 + 272 + 16) + 33
    assert lines[:2] == [str(4 * parameters), str(parameters)]
    assert lines[2:] == [f"en-es\tscratch\t{score}" for score in scores]


def test_costs_of_student_and_teacher(root):
    table = evaluate.cost_table(*runs.load(root / "run"), "test").splitlines()
    cells = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in table}
    assert [cell.strip() for cell in cells[""]] == [
        "parameters",
        "MB",
        "M multiply-adds",
        "ms, batch 1",
        "ms, batch 64",
    ]
    assert cells["student"][0].strip() == "2,593"
    assert set(cells) >= {"student", "teacher"}
    times = [[float(cell) for cell in cells[name][2:]] for name in ("student", "teacher")]
    assert np.min(times) > 0
    scores = evaluate.scores_table(
        {"student": {"pearson": 0.5, "rmse": 12.25}, "teacher": {"pearson": 1, "rmse": 0}}, "test"
    )
    assert "50.00% | 12.2500" in scores


def test_stablehlo_of_a_network_for_pairs(root, tmp_path):
    export.export_network(root / "run", "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    plan = make_plan(quality_config(root))
    tokens = plan.student.preprocess(plan.dataset.splits["test"].inputs)
    expected = runs.predict(root / "run", teachers=False)["student"]
    for rows, source, target in ((30, 12, 7), (1, 5, 6)):
        arguments = []
        for side, length in (("source", source), ("target", target)):
            arguments += [tokens[side].ids[:rows, :length], tokens[side].lengths[:rows]]
        np.testing.assert_allclose(exported.call(*arguments), expected[:rows], atol=1e-6)
    with pytest.raises(InputError, match="--format: expected stablehlo for a BiRnn"):
        export.export_network(root / "run", "safetensors", tmp_path / "folder")


def test_teachers_of_classes_are_refused(config, root, tmp_path):
    config.teacher.path = str(root / "encoder")  # Its head has the classes a, b and c.
    with pytest.raises(InputError, match="expected a head for a regression, got a, b, c") as error:
        runs.run(config, tmp_path)
    assert "\n" not in str(error.value)


def test_networks_that_do_not_fit_are_refused(config, tmp_path):
    config.student.model = "birnn:3,8x8"
    with pytest.raises(InputError, match=r"config.student.model: .* at most 3 tokens"):
        runs.run(config, tmp_path)
    config.student.model = "birnn:20,8x8"
    config.dataset.name = "tsv"
    with pytest.raises(InputError, match=r"train.tsv, line 1: expected a header"):
        runs.run(config, tmp_path)
