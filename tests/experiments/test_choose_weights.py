"""Rows of a comparison that change fields, and the choice of their weights on validation."""

import json
import re

import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.host.errors import DivergedError, InputError
from experiments.choose_weights import choose_weights
from experiments.compare import compare_methods
from tests.support.configs import small_config

VARIANTS = {
    "soft": {
        "method": "compose",
        "compose": {"kl": {"weight": 2.0}, "supervised": {"weight": 0.5}},
    },
    "slow": {"method": "scratch", "student": {"optimizer": {"learning_rate": 0.01}}},
}


@pytest.fixture
def config():
    config = small_config()
    config.teacher.epochs = config.student.epochs = 2
    config.annealing_kd.stage_1.epochs = 1
    config.variants = ConfigDict(VARIANTS)
    return config


def test_comparison_trains_methods_and_variants(config, tmp_path):
    comparison = compare_methods(config, ["scratch", "slow", "soft"], 1, tmp_path)
    assert list(comparison["methods"]) == ["scratch", "slow", "soft"]
    used = {
        row: json.loads((tmp_path / row / "seed_0" / "config.json").read_text())["config"]
        for row in comparison["methods"]
    }
    assert used["slow"]["student"]["optimizer"]["learning_rate"] == 0.01
    assert used["scratch"]["student"]["optimizer"]["learning_rate"] != 0.01
    assert used["soft"]["method"] == "compose"
    assert used["soft"]["compose"]["kl"]["weight"] == 2.0
    assert used["soft"]["compose"]["supervised"]["weight"] == 0.5
    # A run knows only its own fields: the variants are not a part of it.
    assert {row: fields["variants"] for row, fields in used.items()} == {row: {} for row in used}
    # Scratch is the reference of all others, which see the same batches from the same start.
    assert comparison["headers"][3] == "vs scratch"


def test_each_candidate_has_its_own_weight_and_temperature(config, tmp_path):
    chosen = choose_weights(config, ["soft"], [0.5, 3.0], [2.0], 1, tmp_path)
    assert json.loads((tmp_path / "weights.json").read_text()) == chosen
    scores = {}
    for name, weight in (("soft_x0_5_T2", 1.0), ("soft_x3_T2", 6.0)):
        folder = tmp_path / name / "seed_0"
        fields = json.loads((folder / "config.json").read_text())["config"]["compose"]
        assert fields["kl"]["weight"] == weight
        assert fields["kl"]["temperature"] == 2.0
        assert fields["supervised"]["weight"] == 0.5
        scores[name] = json.loads((folder / "results.json").read_text())["student"]["validation"]
    best = {0.5: "soft_x0_5_T2", 3.0: "soft_x3_T2"}[chosen["soft"]["factor"]]
    assert chosen["soft"]["validation"] == scores
    assert scores[best] == max(scores.values())
    assert chosen["soft"]["temperature"] == 2.0


def test_a_method_that_diverges_does_not_end_a_comparison(config, tmp_path):
    fast = {"method": "scratch", "student": {"optimizer": {"name": "sgd", "learning_rate": 1e30}}}
    config.variants = ConfigDict({"fast": fast})
    comparison = compare_methods(config, ["fast", "scratch"], 1, tmp_path)
    assert list(comparison["methods"]) == ["scratch"]
    assert comparison["rows"][-1][:2] == ["fast", "diverged"]
    assert len(comparison["rows"][-1]) == len(comparison["headers"])
    assert re.match(r"fast diverged: scratch seed \d: expected a finite", comparison["notes"][-1])
    with pytest.raises(DivergedError, match=r"^all methods diverged; scratch seed .* finite loss"):
        compare_methods(config, ["fast"], 1, tmp_path)


def test_a_candidate_that_diverges_is_not_chosen(config, tmp_path):
    config.student.optimizer.name = "sgd"
    variant = {
        "method": "compose",
        "compose": {"annealed_mse": {"weight": 1.0}, "supervised": {"weight": 1.0}},
    }
    config.variants = ConfigDict({"squares": variant})
    chosen = choose_weights(config, ["squares"], [0.1, 1e20], [], 1, tmp_path / "some")
    assert chosen["squares"]["factor"] == 0.1
    assert chosen["squares"]["validation"]["squares_x1e+20"] is None
    with pytest.raises(
        DivergedError, match=r"^squares: .* got none of squares_x1e\+20; add smaller"
    ):
        choose_weights(config, ["squares"], [1e20], [], 1, tmp_path / "none")


def test_wrong_rows_and_factors_are_refused(config, tmp_path):
    with pytest.raises(
        InputError, match=r"methods among .* or variants among slow, soft, got 'so'"
    ):
        compare_methods(config, ["so"], 1, tmp_path / "run")
    config.variants = ConfigDict({"typo": {"student": {"epoch": 3}}})
    with pytest.raises(InputError, match=r"config\.student\.epoch: unknown field; did you mean"):
        compare_methods(config, ["typo"], 1, tmp_path / "run")
    config.variants = ConfigDict({"typo": {"student": {"epochs": 0.5}}})
    with pytest.raises(InputError, match=r"config\.variants\.typo: expected fields of the conf"):
        compare_methods(config, ["typo"], 1, tmp_path / "run")
    config.variants = ConfigDict(VARIANTS)
    for names in (["slow"], ["missing"]):
        with pytest.raises(InputError, match=r"method compose among soft, got '\w+'"):
            choose_weights(config, names, [1.0], [], 1, tmp_path / "run")
    with pytest.raises(
        InputError, match="at least one variant and one factor, and numbers above 0"
    ):
        choose_weights(config, ["soft"], [0.0], [], 1, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_with_variants_trains_its_own_method(config, tmp_path):
    config.method = "scratch"
    result = runs.run(config, tmp_path / "run")
    config.variants = ConfigDict({})
    assert runs.run(config, tmp_path / "run") == result  # The variants do not matter to resume it.
