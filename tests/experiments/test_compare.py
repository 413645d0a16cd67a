import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from statistics import stdev

import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import losses, methods, runs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Section
from akd_jax.methods.base import TrainedConfig
from akd_jax.methods.scratch import supervised_loss
from akd_jax.runs import config as schema
from akd_jax.runs import make_plan
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from experiments import comparison_scores, comparison_table, html_report
from experiments.compare import compare_methods
from experiments.report_figures import calibration, draw_lengths, draw_predictions
from tests.support.configs import small_config
from tests.support.errors import error_of
from tests.support.launching import GUARD_SECONDS

METHODS = ["scratch", "annealing_kd"]


def shorter_config():
    config = small_config()
    config.teacher.epochs = 2
    config.student.epochs = 4
    config.annealing_kd.stage_1.epochs = 2
    return config


@pytest.fixture
def small():
    return shorter_config()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A finished comparison of two methods with two seeds: its folder and its results."""
    folder = tmp_path_factory.mktemp("comparison")
    return folder, compare_methods(shorter_config(), METHODS, 2, folder)


@pytest.fixture
def copied(shared, tmp_path):
    """A copy of that folder, which a test can change."""
    return shutil.copytree(shared[0], tmp_path / "comparison")


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/**/metrics.jsonl")}


def test_comparison_summarizes_its_runs(shared):
    folder, comparison = shared
    for method in METHODS:
        entry = comparison["methods"][method]
        results = [
            json.loads((folder / method / f"seed_{seed}" / "results.json").read_text())
            for seed in (0, 1)
        ]
        assert [result["seed"] for result in results] == [0, 1]
        scores = [result["student"]["test"] for result in results]
        assert entry["test"]["values"] == scores
        assert entry["test"]["mean"] == pytest.approx(sum(scores) / 2)
        assert entry["test"]["std"] == pytest.approx(stdev(scores))
        assert entry["n"] == 2
        assert {sum(stage["steps"] for stage in result["stages"]) for result in results} == {20}
    assert json.loads((folder / "comparison.json").read_text()) == comparison
    assert "20 updates" in comparison["notes"][0]


def test_all_runs_share_one_teacher(shared):
    folder, comparison = shared
    assert (folder / "teacher/results.json").exists()
    assert not (folder / "annealing_kd/seed_0/teacher").exists()
    results = json.loads((folder / "annealing_kd/seed_0/results.json").read_text())
    assert comparison["teachers"]["teacher"]["test"] == results["teacher"]["test"]


def test_recorded_scores_equal_scores_of_restored_predictions(shared, small):
    folder, comparison = shared
    entry = comparison["methods"]["annealing_kd"]
    predicted = [runs.predict(folder / "annealing_kd" / f"seed_{seed}") for seed in (0, 1)]
    labels = make_plan(small).dataset.splits["test"].labels
    for number, logits in enumerate(predicted):
        classes = logits["student"].argmax(axis=-1)
        assert entry["test"]["values"][number] == pytest.approx((classes == labels).mean())
        agreement = (classes == logits["teacher"].argmax(axis=-1)).mean()
        assert entry["agreement"]["values"][number] == pytest.approx(agreement)
        stored = runs.read_test_predictions(folder / "annealing_kd" / f"seed_{number}")
        np.testing.assert_allclose(stored, logits["student"], rtol=1e-5, atol=1e-5)
    low, high = entry["against"]["scratch"]
    difference = entry["test"]["mean"] - comparison["methods"]["scratch"]["test"]["mean"]
    assert low <= difference <= high
    assert comparison["headers"][3] == "vs scratch"


def test_comparison_without_stored_predictions_computes_them(copied, shared, small):
    for path in copied.glob("*/seed_*/test_predictions.npz"):
        path.unlink()
    again = compare_methods(small, METHODS, 2, copied)
    assert again["methods"].keys() == shared[1]["methods"].keys()
    for method, entry in again["methods"].items():
        expected = shared[1]["methods"][method]
        assert entry["agreement"] == expected["agreement"]
        assert entry["against"] == expected["against"]
    path = copied / "scratch/seed_0/test_predictions.npz"
    np.savez(path, logits=np.zeros((500, 10), np.float32))
    for damaged in (b"damaged", path.read_bytes()[:-30]):
        path.write_bytes(damaged)
        assert "delete the file" in error_of(compare_methods, small, METHODS, 2, copied)


def test_labels_have_no_beams(small, tmp_path):
    error = error_of(lambda: compare_methods(small, METHODS, 2, tmp_path, beams=5))
    assert error.startswith("--beams: expected 1 for a run that generates no texts, got 5")
    assert not list(tmp_path.iterdir())


def test_finished_comparison_trains_nothing(shared, small):
    folder, comparison = shared
    before = modification_times(folder)
    assert len(before) == 5  # Four students and a teacher.
    assert compare_methods(small, METHODS, 2, folder) == comparison
    assert modification_times(folder) == before


class OfflinePage(HTMLParser):
    """Collects the table cells of a page, and the links to other files."""

    def __init__(self, path):
        super().__init__()
        self.cells, self.links, self.in_cell = [], [], False
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.in_cell = tag == "td"
        if self.in_cell:
            self.cells.append("")
        self.links += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name == "href" and tag in ("a", "link")]

    def handle_data(self, data):
        if self.in_cell:
            self.cells[-1] += data

    def handle_endtag(self, tag):
        self.in_cell = False


def test_report_of_a_comparison_has_the_table_and_needs_no_other_file(shared):
    folder, comparison = shared
    page = OfflinePage(html_report.write(folder))
    assert page.cells[:3] == ["(teacher)", comparison["rows"][0][1], ""]
    assert "annealing_kd" in page.cells
    assert page.links == []
    assert "<svg" in page.text


def test_report_of_many_methods_draws_the_references_and_the_best_ones(copied):
    comparison = records.read(copied / html_report.COMPARISON)
    entry = comparison["methods"]["scratch"]
    others = {
        f"other_{number}": {**entry, "validation": {**entry["validation"], "mean": number / 100}}
        for number in range(12)
    }
    others["other_0"]["validation"]["mean"] = None  # As if a score had not been finite.
    comparison["methods"] = {**others, "scratch": others["other_0"]}
    records.write(copied / html_report.COMPARISON, comparison)
    runs, _ = html_report.read_runs(copied)
    assert list(runs) == [*(f"other_{number}" for number in range(3, 12)), "scratch"]
    text = html_report.write(copied).read_text()
    assert "The curves show 10 of 13 methods: the references" in text


def test_report_of_a_run_has_its_networks_and_stages(copied):
    page = OfflinePage(html_report.write(copied / "annealing_kd/seed_0"))
    assert {"teacher", "student", "stage_1", "stage_2"} <= set(page.cells)


def test_report_of_a_teacher_is_refused(shared):
    with pytest.raises(InputError, match="expected a run, comparison or search, got a teacher"):
        html_report.write(shared[0] / "teacher")


def test_report_of_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a finished run, comparison or search, got none"):
        html_report.write(tmp_path)


def test_unknown_method_is_refused_before_training(small, tmp_path):
    with pytest.raises(InputError, match="got 'akd'"):
        compare_methods(small, ["scratch", "akd"], 1, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("names", "got"), [([], "none"), (["kd", "kd"], "kd, kd")])
def test_missing_or_repeated_methods_are_refused(small, tmp_path, names, got):
    with pytest.raises(InputError, match=f"expected different names, got {got}"):
        compare_methods(small, names, 1, tmp_path / "run")


def test_methods_can_be_added_after_the_folder_was_moved(copied, small, shared):
    shutil.rmtree(copied / "annealing_kd")
    before = modification_times(copied)
    comparison = compare_methods(small, ["scratch", "kd"], 1, copied)
    values = shared[1]["methods"]["scratch"]["test"]["values"]
    assert comparison["methods"]["scratch"]["test"]["values"] == values[:1]
    assert set(comparison["methods"]) == {"scratch", "kd"}
    assert before.items() <= modification_times(copied).items()
    assert "±" not in comparison["rows"][1][1]  # One seed has no standard deviation.
    moved = copied.rename(copied.with_name("moved"))
    again = compare_methods(small, ["scratch", "kd"], 1, moved)
    assert again["methods"] == comparison["methods"]


def test_changed_configuration_is_refused_before_training(copied, small):
    shutil.rmtree(copied / "scratch")
    small.student.epochs = 5
    with pytest.raises(
        InputError, match=r"different config\.student\.epochs \(recorded 4, given 5\)"
    ):
        compare_methods(small, METHODS, 1, copied)
    assert not (copied / "scratch").exists()


def test_method_with_more_epochs_is_refused_before_training(small, tmp_path, monkeypatch):
    def build(settings, task):
        optimizer = settings.student.optimizer
        return Method("longer", (Stage("longer", 5, supervised_loss, optimizer),))

    monkeypatch.setitem(methods.METHODS, "longer", methods.MethodSpec(build))
    batches = len(make_plan(small).batches("train"))
    message = (
        rf"updates, up to half an epoch, got .'scratch': {4 * batches}, 'longer': {5 * batches}"
    )
    with pytest.raises(InputError, match=message):
        compare_methods(small, ["scratch", "longer"], 1, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class MentorConfig(Section):
    mentor: TrainedConfig = TrainedConfig(model="plain_cnn:6 M FC", epochs=1)


def use_mentor(monkeypatch, has_path=True):
    """Makes 'mine' a method whose student learns from a mentor; returns a configuration for it."""

    def build(settings, task):
        section = settings.section(MentorConfig).mentor
        stages = (Stage("scratch", section.epochs, supervised_loss, section.optimizer),)
        mentor = methods.teacher_recipe(section, "mine.mentor", lambda: Method("mentor", stages))
        if not has_path:
            mentor = dataclasses.replace(mentor, field="the mentor of the method mine")
        soft = losses.bind(losses.kl, teacher="mentor", temperature=2.0)
        stage = Stage("soft", 1, soft, section.optimizer, teachers=("mentor",))
        return Method("mine", (stage,), {"mentor": mentor})

    spec = methods.MethodSpec(build, MentorConfig)
    monkeypatch.setattr(methods, "METHODS", {**methods.METHODS, "mine": spec})
    config = ConfigDict(schema.default().model_dump())
    config.update(batch_size=200)
    return config


@pytest.mark.parametrize("has_path", [True, False])
def test_teacher_is_shared_if_the_configuration_has_its_path(has_path, tmp_path, monkeypatch):
    config = use_mentor(monkeypatch, has_path)
    comparison = compare_methods(config, ["mine"], 1, tmp_path)
    assert (tmp_path / "mentor").exists() == has_path
    assert (tmp_path / "mine/seed_0/mentor").exists() != has_path
    assert list(comparison["teachers"]) == ["mentor"] * has_path


def test_rows_with_different_teachers_of_one_name_are_refused(tmp_path, monkeypatch):
    config = use_mentor(monkeypatch)
    config.method = "mine"
    config.variants = {
        name: {"mine": {"mentor": {"epochs": epochs}}} for name, epochs in (("a", 1), ("b", 2))
    }
    with pytest.raises(InputError, match=r"same mentor, got b, which trains another one") as error:
        compare_methods(config, ["a", "b"], 1, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mentor").exists()


def test_deviation_of_one_seed_is_none():
    metrics = {"test": {"accuracy": 0.25}, "test_far": {"accuracy": 0.75}}
    score = {"validation": 0.5, "test": 0.25, "test_last": 0.125, "metrics": metrics}
    results = [{"student": score, "stages": [{"seconds": 1.0}, {"seconds": 2.5}]}]
    summary = comparison_scores.summarize_runs(results, "accuracy")
    assert summary["other_tests"] == {"test_far": {"mean": 0.75, "std": None, "values": [0.75]}}
    assert summary["test"] == {"mean": 0.25, "std": None, "values": [0.25]}
    assert (summary["n"], summary["seconds"], summary["teacher_seconds"]) == (1, 3.5, 0)


def test_mean_with_a_score_that_was_not_finite_is_none():
    metrics = {"test_far": {"accuracy": 0.75}}
    others = {"validation": 0.5, "test_last": 0.125, "metrics": metrics}
    runs_scores = ({**others, "test": test} for test in (0.25, None))
    results = [{"student": scores, "stages": [{"seconds": 1.0}]} for scores in runs_scores]
    entry = comparison_scores.summarize_runs(results, "accuracy")
    assert entry["test"] == {"mean": None, "std": None, "values": [0.25, None]}
    table = comparison_table.table({"kd": {**entry, "against": {}}}, (), {}, [])
    assert table["headers"][:4] == ["", "test", "test_far", "last step"]
    assert table["rows"][0][:4] == ["kd", "-", "75.00 ± 0.00", "12.50 ± 0.00"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_report_fits_a_phone_and_logs_no_errors(copied, tmp_path):
    text = html_report.write(copied).read_text()
    measured = "document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"<script>{measured}</script></body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,800"]
    command += [f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=True,
    )
    width, shown = map(int, re.search(r"<title>(\d+) of (\d+)</title>", done.stdout).groups())
    assert width <= shown
    assert shown <= 500  # A browser can have a smallest width.
    assert "CONSOLE" not in done.stderr
    assert "prefers-color-scheme: dark" in text
    for heading in ("Training", "Predictions", "Time", "What ran"):
        assert f"<h2>{heading}</h2>" in text


def test_bleu_by_length_is_drawn_where_there_are_sources():
    references = ["one two three four", "five six seven eight nine"]
    figure = draw_lengths({"right": references, "wrong": ["no"] * 2}, references, ["a " * 5] * 2)
    (right, wrong) = figure.axes[0].lines
    assert right.get_xdata() == ["0-8"]
    np.testing.assert_allclose(right.get_ydata(), [100])
    np.testing.assert_allclose(wrong.get_ydata(), [0])


def test_calibration_by_hand():
    # Two predictions with confidence 3/4, of which one is right, and one with 0.95, which is right.
    logits = np.log([[0.75, 0.25], [0.25, 0.75], [0.95, 0.05]])
    confidence, accuracy = calibration(logits, np.array([0, 0, 0]))
    np.testing.assert_allclose(confidence, [0.75, 0.95])
    np.testing.assert_allclose(accuracy, [0.5, 1.0])
    figure = draw_predictions({"kd": logits}, np.array([0, 0, 0]), ("no", "yes"))
    assert [bar.get_height() for bar in figure.axes[1].patches] == pytest.approx([2 / 3, 0])
    assert len(draw_predictions({"kd": logits}, np.array([0, 0, 0]), ("",) * 21).axes) == 1
