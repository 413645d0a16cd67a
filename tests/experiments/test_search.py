"""The search for settings: its trials, its resume, and the comparison of the best settings."""

import functools
import json
import shutil

import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.host.errors import DivergedError
from akd_jax.runs.setup import read_config
from configs import digits, fashion_mnist, language_names
from experiments import html_report, search, search_plots, search_report
from experiments.compare import compare_methods
from experiments.search import search_settings
from experiments.search_report import summary
from experiments.searched import use_best
from tests.support.configs import small_config
from tests.support.errors import error_of
from tests.support.killing import kill_at_evaluation

RATE = {"optimizer": {"learning_rate": ["log", 0.001, 0.1]}}
RANGES = {
    "scratch": {"student": RATE},
    "soft": {"student": RATE, "kd": {"temperature": ["choice", 1.0, 4.0]}},
}


@pytest.fixture
def config():
    config = small_config()
    config.teacher.epochs = config.student.epochs = 2
    config.checkpoint_every = 1
    config.variants = ConfigDict({"soft": {"method": "kd", "kd": {"weight": 0.5}}})
    config.search = ConfigDict(RANGES)
    return config


def scripted(monkeypatch, score):
    """Replaces the training of a student by a function of its configuration."""

    def run(config, folder, *, loaded):
        value = score(config)
        if value is None:
            raise DivergedError("the loss is not finite")
        return {"student": {"validation": value}}

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(search, "check_run_folder", lambda config, folder: None)
    monkeypatch.setattr(search, "share_teachers", lambda config, plans, workdir: (config, {}))


def settings_of(found, row):
    return [trial["settings"] for trial in found["methods"][row]["trials"]]


def test_a_killed_search_ends_as_one_never_killed_and_its_best_settings_are_compared(
    config, tmp_path, monkeypatch
):
    whole = search_settings(config, ["scratch", "soft"], 2, 2, tmp_path / "whole")
    assert json.loads((tmp_path / "whole/search.json").read_text()) == whole
    with kill_at_evaluation(monkeypatch, 9):  # In the first trial of the second row.
        search_settings(config, ["scratch", "soft"], 2, 2, tmp_path / "killed")
    assert not (tmp_path / "killed/search.json").exists()
    again = search_settings(config, ["scratch", "soft"], 2, 2, tmp_path / "killed")
    assert again == whole
    for row, entry in whole["methods"].items():
        assert len(entry["trials"]) == 2
        for trial in entry["trials"]:
            scores = []
            for seed in (0, 1):
                folder = tmp_path / "whole" / trial["runs"] / f"seed_{seed}"
                used = json.loads((folder / "config.json").read_text())["config"]
                rate = trial["settings"]["student.optimizer.learning_rate"]
                assert used["student"]["optimizer"]["learning_rate"] == rate
                assert (used["seed"], used["search"]) == (seed, {})
                if row == "soft":
                    assert used["kd"]["temperature"] == trial["settings"]["kd.temperature"]
                    assert used["kd"]["weight"] == 0.5
                results = json.loads((folder / "results.json").read_text())
                scores.append(results["student"]["validation"])
            assert trial["validation"] == scores
            assert trial["mean"] == np.mean(scores)
        assert entry["best"]["mean"] == max(trial["mean"] for trial in entry["trials"])
    page = html_report.write(tmp_path / "whole").read_text()
    assert page.count("<svg") == 1  # Two trials do not tell how much a field matters.
    assert "validation accuracy</th><th>trials</th>" in page
    assert "<td>data set</td><td>digits</td>" in page
    # The comparison has the best settings, and seeds of its own.
    config.seed = 2
    config = use_best(config, ["soft"], 1, tmp_path / "whole")
    compare_methods(config, ["soft"], 1, tmp_path / "compared", [])
    used = json.loads((tmp_path / "compared/soft/seed_2/config.json").read_text())["config"]
    best = whole["methods"]["soft"]["best"]["settings"]
    assert used["kd"] == {**used["kd"], "temperature": best["kd.temperature"], "weight": 0.5}
    assert used["student"]["optimizer"]["learning_rate"] == best["student.optimizer.learning_rate"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_more_trials_begin_with_the_same_ones(config, tmp_path, monkeypatch, sampler):
    scripted(monkeypatch, lambda config: -config.student.optimizer.learning_rate)
    few, more = (
        search_settings(config, ["soft"], trials, 1, tmp_path / sampler, sampler=sampler)
        for trials in (12, 20)
    )
    rates = [x["student.optimizer.learning_rate"] for x in settings_of(more, "soft")]
    assert settings_of(more, "soft")[:12] == settings_of(few, "soft")
    assert len(set(rates)) == 20
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    assert more["methods"]["soft"]["best"]["settings"]["student.optimizer.learning_rate"] == min(
        rates
    )
    if sampler == "tpe":  # After ten random trials it looks where the scores are high.
        assert np.median(rates[10:]) < np.median(rates[:10])
    # The score depends on the learning rate alone.
    importance = more["methods"]["soft"]["importance"]
    assert importance["student.optimizer.learning_rate"] > 0.9
    assert sum(importance.values()) == pytest.approx(1)


def test_bad_trials_are_pruned_and_diverged_ones_are_never_the_best(config, tmp_path, monkeypatch):
    scores = {0: 0.5, 1: 0.6, 2: None, 3: 0.7, 4: 0.5, 5: 0.6, 6: 0.1, 7: 0.9}
    calls = []

    def score(config):
        trial = len({rate for rate, _ in calls} | {config.student.optimizer.learning_rate}) - 1
        calls.append((config.student.optimizer.learning_rate, config.seed))
        return scores[trial]

    scripted(monkeypatch, score)
    found = search_settings(config, ["scratch"], 8, 3, tmp_path, prune=True)
    (entry,) = found["methods"].values()
    states = [trial["state"] for trial in entry["trials"]]
    assert states == ["finished"] * 2 + ["diverged"] + ["finished"] * 3 + ["pruned", "finished"]
    assert [len(trial["validation"]) for trial in entry["trials"]] == [3, 3, 0, 3, 3, 3, 1, 3]
    assert entry["best"] == {**entry["trials"][7], "interval": 0.0}
    assert "|      90.00% ± 0.00% |      8 |        1 |      1 |" in summary(found)
    assert [bool(section.parts) for section in search_report.sections(found)] == [True, True, True]
    figure = search_plots.draw_history(found)
    (best,) = figure.axes[0].lines[1:]
    expected = [0.5, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7, 0.9]
    np.testing.assert_allclose(best.get_ydata(), expected)
    search_plots.write(found, tmp_path)
    assert (tmp_path / "search_importance.png").stat().st_size > 1000
    scripted(monkeypatch, lambda config: None)
    with pytest.raises(DivergedError, match=r"^scratch: expected a trial that does not diverge"):
        search_settings(config, ["scratch"], 2, 3, tmp_path / "diverged")


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "expected ranges of the fields of scratch, got those of no row"),
        ({"scratch": {"student": {"epochs": ["log", 0, 3]}}}, "LOW above 0"),
        ({"scratch": {"student": {"epochs": ["choice"]}}}, r"or ['choice', VALUE, ...], got"),
        ({"scratch": {"student": {"epochs": 3}}}, "got 3"),
        ({"scratch": {"student": {"epoch": ["linear", 1, 3]}}}, "did you mean 'epochs'?"),
        ({"scratch": {"student": {"epochs": ["linear", 1.0, 3.0]}}}, "1.0 is of original type"),
        ({"scratch": {"student": {"epochs": ["linear", 0, 3]}}}, "equal to 1, got 0"),
        ({"scratch": {"student": {"epochs": ["choice", 2, "2"]}}}, "2 is of original type"),
    ],
)
def test_wrong_ranges_are_refused(config, tmp_path, ranges, message):
    config.search = ConfigDict(ranges)
    error = error_of(search_settings, config, ["scratch"], 1, 1, tmp_path)
    assert error.startswith("config.search")
    assert message in error


def test_searches_that_do_not_fit_a_comparison_are_refused(config, tmp_path, monkeypatch):
    assert "run experiments.search first" in error_of(use_best, config, ["soft"], 1, tmp_path)
    scripted(monkeypatch, lambda config: 0.5)
    search_settings(config, ["soft"], 1, 2, tmp_path)
    assert "set --config.seed=2" in error_of(use_best, config, ["soft"], 1, tmp_path)
    config.seed = 2
    recorded = tmp_path / "recorded.json"
    shutil.copy(tmp_path / "search.json", recorded)
    of_file, of_folder = (use_best(config, ["soft"], 1, x) for x in (recorded, tmp_path))
    assert of_file.to_dict() == of_folder.to_dict()
    recorded.write_text('{"methods": {}}')
    assert "or its search.json, got" in error_of(use_best, config, ["soft"], 1, recorded)
    error = error_of(use_best, config, ["scratch"], 1, tmp_path)
    assert error == "--search: expected rows among soft, got 'scratch'; search its settings too"
    error = error_of(search_settings, config, ["soft"], 1, 2, tmp_path)
    assert "expected" in error
    assert "seeds" in error


def test_students_of_a_shorter_search_have_a_share_of_the_epochs(config, tmp_path, monkeypatch):
    used = []
    scripted(monkeypatch, lambda config: used.append(config) or 0.5)
    config.student.epochs, config.annealing_kd.stage_1.epochs = 9, 4
    config.takd.assistant.epochs, config.student.optimizer.warmup_epochs = 8, 1
    config.teacher.epochs, config.teacher.optimizer.warmup_epochs = 6, 3
    config.search.annealing_kd = {"annealing_kd": {"stage_1": {"epochs": ["choice", 4]}}}
    found = search_settings(config, ["annealing_kd"], 1, 1, tmp_path, epochs_divisor=3)
    (one,) = used
    assert (one.student.epochs, one.annealing_kd.stage_1.epochs) == (3, 1)  # 4 / 3 is about 1.
    assert one.student.optimizer.warmup_epochs == 1  # Never less, unless there is none.
    assert one.annealing_kd.stage_1.optimizer.warmup_epochs == 0
    # Trained once for all.
    assert (one.teacher.epochs, one.teacher.optimizer.warmup_epochs) == (6, 3)
    assert one.takd.assistant.epochs == 8
    # The settings are those of a whole training.
    assert found["methods"]["annealing_kd"]["best"]["settings"] == {
        "annealing_kd.stage_1.epochs": 4
    }
    assert found["epochs_divisor"] == 3
    search_plots.write(found, tmp_path)
    assert "train for 1/3 of their epochs" in html_report.write(tmp_path).read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("module", [digits, fashion_mnist, language_names])
def test_any_settings_of_the_ranges_fit_a_shorter_search(tmp_path, monkeypatch, module):
    config = module.get_config("all" if module is fashion_mnist else "kd")
    scripted(monkeypatch, lambda config: bool(read_config(config)) / 2)
    rows = [row for row in config.search if row != "annealing_published"]
    search_settings(config, rows, 20, 1, tmp_path, epochs_divisor=3)


def test_updates_are_equal_in_the_shorter_search(config, tmp_path):
    config.student.epochs = 8
    config.variants = ConfigDict({"long": {"method": "scratch", "student": {"epochs": 12}}})
    config.search = ConfigDict({"scratch": {"student": RATE}, "long": {"student": RATE}})
    rows = ["scratch", "long"]
    error = error_of(
        functools.partial(search_settings, epochs_divisor=4), config, rows, 1, 1, tmp_path
    )
    assert "change their epochs" in error


def test_rows_with_more_updates_need_a_flag(config, tmp_path):
    config.variants = ConfigDict({"long": {"method": "scratch", "student": {"epochs": 4}}})
    rows = ["scratch", "long"]
    assert "change their epochs" in error_of(compare_methods, config, rows, 1, tmp_path)
    comparison = compare_methods(config, rows, 1, tmp_path, equal_updates=False)
    results = json.loads((tmp_path / "scratch/seed_0/results.json").read_text())
    updates = results["stages"][0]["steps"]
    expected = f"Updates: scratch {updates}, long {2 * updates}."
    assert comparison["notes"][1] == f"Rows with more updates can win by them alone. {expected}"
