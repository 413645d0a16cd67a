import json
from html.parser import HTMLParser
from statistics import stdev

import pytest

from akd_jax import runs
from akd_jax.errors import InputError
from akd_jax.plan import make_plan
from experiments import compare as launcher
from experiments import html_report
from experiments.compare import compare_methods


@pytest.fixture
def small(config):
    config.student.epochs = 4
    config.annealing_kd.stage_1.epochs = 2
    return config


def test_a_comparison_is_its_runs(small, tmp_path, monkeypatch, capsys):
    comparison = compare_methods(small, ["scratch", "annealing_kd"], 2, tmp_path)

    for method in ("scratch", "annealing_kd"):
        entry = comparison["methods"][method]
        results = [
            json.loads((tmp_path / method / f"seed_{seed}" / "results.json").read_text())
            for seed in (0, 1)
        ]
        assert [found["seed"] for found in results] == [0, 1]
        scores = [found["student"]["test"] for found in results]
        assert entry["test"]["values"] == scores
        assert entry["test"]["mean"] == pytest.approx(sum(scores) / 2)
        assert entry["test"]["std"] == pytest.approx(stdev(scores))
        assert entry["n"] == 2
        assert {sum(stage["steps"] for stage in found["stages"]) for found in results} == {20}
    assert json.loads((tmp_path / "comparison.json").read_text()) == comparison
    assert not (tmp_path / "annealing_kd/seed_0/teacher").exists()  # One teacher for all.
    assert (tmp_path / "teacher/results.json").exists()
    assert "20 updates" in comparison["notes"][0]
    assert comparison["teachers"]["teacher"]["test"] == results[0]["teacher"]["test"]

    # Scores of the predictions, from the checkpoints, by hand.
    predicted = [runs.predict(tmp_path / "annealing_kd" / f"seed_{seed}") for seed in (0, 1)]
    labels = make_plan(small).dataset.splits["test"].labels
    for number, found in enumerate(predicted):
        classes = found["student"].argmax(axis=-1)
        assert entry["test"]["values"][number] == pytest.approx((classes == labels).mean())
        expected = (classes == found["teacher"].argmax(axis=-1)).mean()
        assert entry["agreement"]["values"][number] == pytest.approx(expected)
    low, high = entry["against"]["scratch"]
    difference = entry["test"]["mean"] - comparison["methods"]["scratch"]["test"]["mean"]
    assert low < difference < high
    assert comparison["headers"][3] == "vs scratch"

    # Again: nothing is trained.
    monkeypatch.setattr(runs, "_train", None)
    assert compare_methods(small, ["scratch", "annealing_kd"], 2, tmp_path) == comparison

    page = html_report.write(tmp_path).read_text()
    parser = Offline()
    parser.feed(page)
    assert parser.cells[:3] == ["(teacher)", comparison["rows"][0][1], ""]
    assert "annealing_kd" in parser.cells
    assert parser.links == []
    assert "<svg" in page


class Offline(HTMLParser):
    """Collects the cells of tables, and whatever would be fetched."""

    def __init__(self):
        super().__init__()
        self.cells, self.links, self.inside = [], [], False

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "td"
        if self.inside:
            self.cells.append("")
        self.links += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name == "href" and tag in ("a", "link")]

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data

    def handle_endtag(self, tag):
        self.inside = False


def test_a_wrong_method_is_refused_before_anything_is_trained(small, tmp_path):
    with pytest.raises(InputError, match="got 'akd'"):
        compare_methods(small, ["scratch", "akd"], 1, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("methods", "came"), [([], "none"), (["kd", "kd"], "kd, kd")])
def test_no_methods_or_one_twice(small, tmp_path, methods, came):
    with pytest.raises(InputError, match=f"expected different names, got {came}"):
        compare_methods(small, methods, 1, tmp_path / "run")


def test_more_methods_can_come_and_the_folder_can_move(small, tmp_path):
    first = compare_methods(small, ["scratch"], 1, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    second = compare_methods(small, ["scratch", "kd"], 1, tmp_path / "there")
    assert second["methods"]["scratch"]["test"] == first["methods"]["scratch"]["test"]
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    third = compare_methods(small, ["scratch", "kd"], 1, tmp_path / "elsewhere")
    assert third["methods"] == second["methods"]


def test_another_configuration_is_refused_before_anything_is_trained(small, tmp_path):
    compare_methods(small, ["kd"], 1, tmp_path)
    small.student.epochs = 5
    with pytest.raises(
        InputError, match=r"different config\.student\.epochs \(recorded 4, given 5\)"
    ):
        compare_methods(small, ["scratch", "kd"], 1, tmp_path)
    assert not (tmp_path / "scratch").exists()


def test_methods_of_unequal_updates_are_refused(small, tmp_path, monkeypatch):
    make_plan = launcher.make_plan

    def longer(config):
        if config.method == "kd":
            config.student.epochs = 5
        return make_plan(config)

    monkeypatch.setattr(launcher, "make_plan", longer)
    with pytest.raises(InputError, match=r"same student epochs, got \{'scratch': 4, 'kd': 5\}"):
        compare_methods(small, ["scratch", "kd"], 1, tmp_path / "run")


def test_one_seed_has_no_deviation(small, tmp_path):
    comparison = compare_methods(small, ["scratch"], 1, tmp_path)
    assert "±" not in comparison["rows"][0][1]


def test_a_run_has_a_report_too(small, tmp_path):
    runs.run(small, tmp_path)
    parser = Offline()
    parser.feed(html_report.write(tmp_path).read_text())
    assert {"teacher", "student", "stage_1", "stage_2"} <= set(parser.cells)


def test_no_report_of_a_teacher_alone(small, tmp_path):
    runs.obtain_teacher(make_plan(small), "teacher", tmp_path)
    with pytest.raises(InputError, match="got the folder of a teacher"):
        html_report.write(tmp_path / "teacher")


def test_no_report_without_a_run(tmp_path):
    with pytest.raises(InputError, match="expected a finished run or comparison, got neither"):
        html_report.write(tmp_path)
