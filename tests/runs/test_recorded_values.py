"""What a run records: valid JSON with the values that were used."""

import itertools
import json
import math
import shutil
import signal

import pytest

from akd_jax import runs
from akd_jax.host import interrupts, records
from akd_jax.host.errors import StoppedError
from experiments import html_report
from tests.support.runs import assert_trees_equal, read_checkpoint, read_metrics, read_progress
from tests.support.scripted import use_scripted_scores


def recorded_temperatures(workdir):
    """Stage name to the temperature of each of its epochs."""
    groups = itertools.groupby(read_metrics(workdir), lambda record: record["stage"])
    return {stage: [record.get("temperature") for record in group] for stage, group in groups}


def test_kd_records_its_constant_temperature(config, teacher_path, tmp_path):
    config.method = "kd"
    config.kd.temperature = 4.0
    config.student.epochs = 2
    config.teacher.path = teacher_path
    results = runs.run(config, tmp_path)
    assert [stage["temperatures"] for stage in results["stages"]] == [[4.0]]
    assert recorded_temperatures(tmp_path) == {"kd": [4.0, 4.0]}
    assert not any("phi" in record for record in read_metrics(tmp_path))


def test_stages_without_a_teacher_record_no_temperature(finished_run, tmp_path):
    results = records.read(finished_run / "results.json")
    assert [stage["temperatures"] for stage in results["stages"]] == [[2, 1], []]
    assert recorded_temperatures(finished_run) == {
        "stage_1": [2, 2, 1, 1, 1],
        "stage_2": [None] * 5,
    }
    assert not any({"temperature", "phi"} & line.keys() for line in read_metrics(finished_run)[5:])
    html_report.write(shutil.copytree(finished_run, tmp_path / "run"))


def test_a_nan_score_is_never_the_best(config, tmp_path, monkeypatch, caplog):
    config.method = "scratch"
    config.student.epochs = 5
    scores = [math.nan, 0.2, 0.5, math.nan, 0.3, 0.6, math.nan]
    use_scripted_scores(monkeypatch, config, scores)
    results = runs.run(config, tmp_path)
    recorded = [record["validation_scripted"] for record in read_metrics(tmp_path)]
    assert recorded == [None, 0.2, 0.5, None, 0.3]
    assert (results["stages"][0]["best_epoch"], results["stages"][0]["best_validation"]) == (3, 0.5)
    assert (results["student"]["test"], results["student"]["test_last"]) == (0.6, None)
    warnings = [message for message in caplog.messages if "scripted" in message]
    assert "epoch 1, validation: scripted is not finite" in warnings[0]
    assert "epoch 4, validation: scripted is not finite" in warnings[1]
    assert "last epoch, test: scripted is not finite" in warnings[2]
    assert len(warnings) == 3


def test_without_any_finite_score_the_last_student_is_kept(config, tmp_path, monkeypatch):
    config.method = "scratch"
    config.student.epochs = 3
    use_scripted_scores(monkeypatch, config, itertools.repeat(math.nan))
    results = runs.run(config, tmp_path)
    (stage,) = results["stages"]
    assert (stage["best_epoch"], stage["best_validation"]) == (3, None)
    assert results["student"]["validation"] is None
    assert (tmp_path / "results.json").read_text() == json.dumps(results, indent=2) + "\n"
    checkpoint = read_checkpoint(tmp_path / "student/scratch")
    assert_trees_equal(checkpoint["best"]["params"], checkpoint["state"]["params"]["student"])
    html_report.write(tmp_path)


def test_a_checkpoint_before_the_first_evaluation_has_no_score(config, tmp_path):
    config.method = "scratch"
    with interrupts.listen():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedError):
            runs.run(config, tmp_path)
    progress = read_progress(tmp_path / "student/scratch")
    assert (progress["best_validation"], progress["last_validation"]) == (None, None)
