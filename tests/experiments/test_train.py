"""The texts that experiments.train prints, and a configuration file with its own method."""

import json

import pytest

from akd_jax import methods
from experiments import train

STAGE = {
    "name": "mixed",
    "epochs": 4,
    "updates": 400,
    "first_step_seconds": 1.5,
    "steps_per_second": 2.0,
    "bytes": 3_000_000,
    "loss": 0.25,
    "schedules": {"psi": [0.0, 0.0, 0.5, 1.0], "my_weight": [0.0] * 4},
    "learning_rate": [0.2, 0.2, 0.1, 0.1],
}


def test_dry_run_draws_every_schedule_of_a_stage():
    networks = {"student": {"parameters": 500_000}}
    text = train.dry_run_report({"networks": networks, "stages": [STAGE], "cache": 0})
    lines = text.splitlines()
    start = lines.index("Schedules of mixed, 4 epochs:")
    assert lines[start + 1 : start + 4] == [
        "  psi           ▁▁▄█  0 to 1",
        "  my weight     ▁▁▁▁  0 to 0",
        "  learning rate ██▄▄  0.2 to 0.1",
    ]
    # 400 updates at 2 per second are 3.3 minutes; 3,000,000 bytes are 3.0 MB.
    (row,) = (line for line in lines if line.startswith("| mixed"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "mixed",
        "400",
        "1.5",
        "2.00",
        "3.3",
        "3.0",
        "0.2500",
    ]


def test_scores_table_has_every_teacher_and_the_student():
    scores = {"validation": 0.5, "test": 0.25}
    results = {
        "method": "takd",
        "teacher": scores,
        "assistant": scores,
        "student": {**scores, "test_last": 0.125},
        "truncated": {"train": 3, "validation": 0, "test": 1},
    }
    _, _, *rows = train.scores_table(results).splitlines()
    assert [row.split()[1] for row in rows] == ["teacher", "assistant", "student"]
    assert rows[1].split()[3::2] == ["50.00%", "25.00%", "-"]
    assert rows[2].split()[3::2] == ["50.00%", "25.00%", "12.50%"]
    assert "teacher" not in train.scores_table({**results, "teacher": None})


# A configuration file with a method of its own: the weight of the teacher's logits falls to 0.
CUSTOM_METHOD = '''
from pydantic import Field

from akd_jax import losses, methods, schedules
from akd_jax.host.settings import Positive, Section
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from tests.support.configs import small_config


class Config(Section):
    """Settings of the method."""

    start: Positive = Field(default=2.0, description="The first weight of the teacher's logits.")


def build(config, task):
    epochs = config.student.epochs
    weight = schedules.linear(config.section(Config).start, 0.0, epochs=epochs - 1)
    loss = losses.compose(ce=(1.0, losses.cross_entropy), logits=(weight, losses.annealed_mse))
    stage = Stage("mine", epochs, loss, config.student.optimizer, teachers=("teacher",),
                  schedules={"logits_weight": weight})
    return Method("mine", (stage,), default_teacher(config))


methods.METHODS["mine"] = methods.MethodSpec(build, Config)


def get_config():
    config = small_config()
    config.method, config.student.epochs, config.teacher.epochs = "mine", 3, 1
    return config
'''
REQUIRED = {"required": ["config", "workdir"], "several_processes": True}


@pytest.fixture
def custom(tmp_path, monkeypatch):
    """The --config and --workdir arguments of a run with that file."""
    path = tmp_path / "mine.py"
    path.write_text(CUSTOM_METHOD)
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))  # Remove the method afterwards.
    return f"--config={path}", f"--workdir={tmp_path / 'run'}"


def test_config_file_can_register_a_method_with_fields_of_its_own(custom, run_launcher, tmp_path):
    ended = run_launcher(train.main, *custom, "--config.mine.start=0.5", **REQUIRED)
    assert (ended.code, ended.stderr) == (0, "")
    assert "| student |" in ended.stdout
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    recorded = [json.loads(line) for line in lines]
    for field in ("logits_weight", "train_logits_scale"):
        assert [record[field] for record in recorded] == pytest.approx([0.5, 0.25, 0.0])
    assert "Weight of the loss term: logits" in (tmp_path / "run" / "report.html").read_text()
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["mine"] == {"start": 0.5}


def test_output_can_be_json_lines_or_nothing(custom, run_launcher, tmp_path):
    ended = run_launcher(train.main, *custom, "--log_json", **REQUIRED)
    assert (ended.code, ended.stderr) == (0, "")
    printed = [json.loads(line) for line in ended.stdout.splitlines()]
    students = [line for line in printed if line["run"] == str(tmp_path / "run")]
    written = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [{k: v for k, v in x.items() if k != "run"} for x in students] == [
        json.loads(line) for line in written
    ]
    assert len(printed) > len(students)  # The teacher's epochs come first.
    ended = run_launcher(train.main, *custom, "--quiet", **REQUIRED)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    ended = run_launcher(train.main, *custom, **REQUIRED)
    assert "is already finished" in ended.stdout
    assert f"evaluate --workdir={tmp_path / 'run'}" in ended.stdout
    ended = run_launcher(train.main, *custom, "--quiet", "--log_json", **REQUIRED)
    assert ended.code == 1
    assert ended.stderr == "error: --quiet, --log_json: expected at most one of them, got both\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.mine.strat=1.0", "config.mine.strat: unknown field; did you mean 'start'?"),
        ("--config.mine.start=0.0", "config.mine.start: expected greater than 0, got 0.0"),
        ("--config.mine.start=x", "config.mine.start: expected a value of type float, such as 2.0"),
    ],
)
def test_wrong_field_of_such_a_method_is_one_line(custom, run_launcher, argument, message):
    ended = run_launcher(train.main, *custom, argument, **REQUIRED)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"error: {message}")
    assert ended.stderr.count("\n") == 1


def test_help_describes_the_fields_of_such_a_method(custom, run_launcher):
    ended = run_launcher(train.main, *custom, "--help", **REQUIRED)
    assert "--config.mine.start=2.0  The first weight of the teacher's logits." in ended.stdout
